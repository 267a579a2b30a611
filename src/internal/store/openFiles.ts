/**
 * The files that a store has open to write: they stay so for a while, because to open and close them costs more than a
 * small write, and there are only so many of them, because a process has only so many descriptors.
 */
import type * as PlatformError from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"

/** Enough for the jobs that write at the same time, and an eighth of the 1,024 descriptors that a process often has. */
const maxOpen = 128

/** A file that was not used between two looks is closed. */
const betweenLooks = Duration.seconds(1)

/** How long to wait for a descriptor before the first and before every later attempt, in milliseconds. */
const firstWait = 10
const longestWait = 1000

/** How long closing waits for files to be closed. */
const closingTimeout = Duration.seconds(1)

interface Entry {
  readonly file: FileSystem.File
  readonly scope: Scope.CloseableScope
  isBusy: boolean
  /** Since the last look. */
  wasUsed: boolean
}

type Open = Effect.Effect<FileSystem.File, PlatformError.PlatformError, Scope.Scope>

export class OpenFiles {
  /** The one that was used least recently comes first. */
  private readonly entries = new Map<object, Entry>()
  /** Why the closing of files failed that were closed to make room: their owners are to know. */
  private readonly failures = new WeakMap<object, Cause.Cause<never>>()
  private readonly scope: Scope.Scope
  private readonly max: number
  /** Whoever uses, opens or closes a file has one: whoever has one and needs room finds a file that is idle. */
  private readonly permits: Effect.Semaphore
  /** Files that are open, or being opened or closed. */
  private count = 0
  private looking = false
  private closed = false

  private constructor(scope: Scope.Scope, max: number) {
    this.scope = scope
    this.max = max
    this.permits = Effect.unsafeMakeSemaphore(max)
  }

  /** Closes all files at the end of the scope, and from then on each of them as soon as it has been used. */
  static make(max = maxOpen): Effect.Effect<OpenFiles, never, Scope.Scope> {
    return Effect.flatMap(Effect.scope, (scope) => {
      const files = new OpenFiles(scope, max)
      return Effect.as(Effect.addFinalizer(() => files.closeAll), files)
    })
  }

  /**
   * Uses a file, which it opens if need be; its owner is who it is known by. One use of a file at a time. `use` learns
   * whether it was open already.
   */
  use<A>(
    owner: object,
    open: Open,
    use: (file: FileSystem.File, wasOpen: boolean) => Effect.Effect<A, PlatformError.PlatformError>
  ): Effect.Effect<A, PlatformError.PlatformError> {
    const using = Effect.gen(this, function*() {
      yield* this.checkFailure(owner)
      const found = this.entries.get(owner)
      const entry = found ?? (yield* this.open(open))
      entry.isBusy = true
      entry.wasUsed = true
      this.entries.delete(owner)
      this.entries.set(owner, entry)
      return yield* Effect.ensuring(
        use(entry.file, found !== undefined),
        Effect.suspend(() => {
          entry.isBusy = false
          return this.closed ? this.release(owner, entry) : Effect.void
        })
      )
    })
    return Effect.uninterruptible(this.permits.withPermits(1)(using))
  }

  /** Closes a file, if it is open. Dies if that fails, or has failed before. */
  close(owner: object): Effect.Effect<void> {
    const closing = Effect.suspend(() => {
      const entry = this.entries.get(owner)
      return entry === undefined ? Effect.void : this.release(owner, entry)
    })
    return Effect.suspend(() =>
      Effect.zipRight(
        this.entries.has(owner) ? Effect.uninterruptible(this.permits.withPermits(1)(closing)) : Effect.void,
        this.checkFailure(owner)
      )
    )
  }

  /**
   * To be out of descriptors is no failure, for they come back: closes what is idle, or waits, and tries again.
   */
  patiently<A, R>(
    open: Effect.Effect<A, PlatformError.PlatformError, R>
  ): Effect.Effect<A, PlatformError.PlatformError, R> {
    const attempt = (wait: number): Effect.Effect<A, PlatformError.PlatformError, R> =>
      Effect.catchIf(
        open,
        (error) => isOutOfDescriptors(error) && !this.closed,
        () =>
          Effect.flatMap(this.releaseOldest, (released) =>
            released
              ? attempt(wait)
              : Effect.zipRight(
                Effect.sleep(wait),
                Effect.suspend(() => attempt(Math.min(wait * 2, longestWait)))
              ))
      )
    return attempt(firstWait)
  }

  private open(open: Open): Effect.Effect<Entry, PlatformError.PlatformError> {
    return Effect.gen(this, function*() {
      while (this.count >= this.max && (yield* this.releaseOldest));
      this.count++
      const scope = yield* Scope.make()
      const file = yield* Effect.tapErrorCause(this.patiently(Scope.extend(open, scope)), (cause) => {
        this.count--
        return Scope.close(scope, Exit.failCause(cause))
      })
      yield* this.beginToLook
      return { file, scope, isBusy: false, wasUsed: true }
    })
  }

  /** Closes the idle file that was used least recently; `false` if there is none. */
  private readonly releaseOldest: Effect.Effect<boolean> = Effect.suspend(() => {
    for (const [owner, entry] of this.entries) {
      if (!entry.isBusy) return Effect.as(this.release(owner, entry), true)
    }
    return Effect.succeed(false)
  })

  private release(owner: object, entry: Entry): Effect.Effect<void> {
    return Effect.suspend(() => {
      // It may have been closed, or used again, since it was chosen.
      if (entry.isBusy || this.entries.get(owner) !== entry) return Effect.void
      this.entries.delete(owner)
      return Effect.uninterruptible(Scope.close(entry.scope, Exit.void)).pipe(
        Effect.catchAllCause((cause) => Effect.sync(() => this.failures.set(owner, cause))),
        Effect.ensuring(Effect.sync(() => this.count--))
      )
    })
  }

  private checkFailure(owner: object): Effect.Effect<void> {
    return Effect.suspend(() => {
      const failure = this.failures.get(owner)
      return failure === undefined ? Effect.void : Effect.failCause(failure)
    })
  }

  /** Runs for as long as a file is open. */
  private readonly beginToLook: Effect.Effect<void> = Effect.suspend(() => {
    if (this.looking || this.closed) return Effect.void
    this.looking = true
    const look = Effect.zipRight(
      Effect.sleep(betweenLooks),
      Effect.suspend(() => this.permits.withPermits(1)(this.releaseUnused))
    )
    const looking = Effect.repeat(look, {
      while: () => {
        this.looking = this.count > 0
        return this.looking
      }
    })
    // Disconnected: the scope must not wait for a disk that hangs.
    return Effect.asVoid(Effect.forkIn(Effect.interruptible(Effect.disconnect(looking)), this.scope))
  })

  private readonly releaseUnused: Effect.Effect<void> = Effect.suspend(() => {
    const unused = Array.from(this.entries).filter(([, entry]) => !entry.isBusy && !entry.wasUsed)
    for (const entry of this.entries.values()) entry.wasUsed = false
    return Effect.forEach(unused, ([owner, entry]) => this.release(owner, entry), { discard: true })
  })

  /** A disk that hangs must not keep anybody. */
  private readonly closeAll: Effect.Effect<void> = Effect.suspend(() => {
    this.closed = true
    const idle = Array.from(this.entries).filter(([, entry]) => !entry.isBusy)
    const closing = Effect.forEach(idle, ([owner, entry]) => this.release(owner, entry), {
      concurrency: "unbounded",
      discard: true
    })
    return closing.pipe(Effect.disconnect, Effect.interruptible, Effect.timeoutOption(closingTimeout), Effect.asVoid)
  })
}

/** Effect has no reason of its own for it. */
const isOutOfDescriptors = (error: PlatformError.PlatformError): boolean => {
  if (error._tag !== "SystemError") return false
  const { cause, description } = error
  const code = typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined
  return code === "EMFILE" || code === "ENFILE" || /^E[MN]FILE\b/.test(description ?? "")
}
