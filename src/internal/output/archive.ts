/**
 * What a store keeps of a log, and the fiber that brings it there: it runs while the log is ahead of the store.
 */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { OutputStoreError } from "../../JobError.ts"
import type { StoredOutput } from "../../OutputStore.ts"
import { sleep } from "../time/sleep.ts"
import type { OutputLog } from "./outputLog.ts"

/** How many bytes are worth a write: each is a trip to another thread and back. And how many are written at once. */
const minWrite = 2 * 1024 * 1024
const maxWrite = 4 * minWrite

/**
 * How long to wait for as many as are worth it, in milliseconds: after silence, so that who follows a file sees at once
 * what comes, and after the last write, so that a job that writes a little all the time costs little.
 */
const patience = 5
const pause = 500

export interface Options {
  readonly log: OutputLog
  readonly open: Effect.Effect<StoredOutput, OutputStoreError>
  readonly fork: (effect: Effect.Effect<void>) => void
  /** How long the store may get nothing done while `settled` waits: longer, and it has failed. Default: 30 seconds. */
  readonly stallTimeout?: Duration.Duration | undefined
  /** The store has everything up to here. Never called by `advance`, `settled` or `remove` themselves. */
  readonly onStored: (position: number) => void
  /** The store keeps no more: it has failed, or it is full. Called like `onStored`, and once at most. */
  readonly onStopped: (reason: Option.Option<OutputStoreError>) => void
}

export class Archive {
  /** Absent until the first bytes are there. */
  stored: StoredOutput | undefined
  /** Why nothing is kept any more from `end` on. */
  error: Option.Option<OutputStoreError> = Option.none()
  /** Up to here, everything has been stored. */
  end = 0
  private readonly options: Options
  private writing = false
  private lastWrite = 0
  /** Ends the wait for more bytes. */
  private goOn: (() => void) | undefined
  /** Whether somebody waits for the end: then every byte is worth a write. */
  private finishing = false
  private readonly waiting = new Set<() => void>()
  private stopped = false
  private removed = false

  constructor(options: Options) {
    this.options = options
  }

  /** Bytes that neither the store nor memory has. */
  get evictedBytes(): number {
    const start = this.options.log.start("all")
    return Math.max(0, start - this.end) + Math.min(start, this.stored?.start("all") ?? 0)
  }

  /** Bytes that the store was not given: not yet, or never if it has stopped. */
  get missingBytes(): number {
    return this.options.log.head - this.end
  }

  /** Stores what the log has more than the store. */
  advance(): void {
    if (this.goOn !== undefined && this.hasEnough) this.goOn()
    if (!this.writing && !this.stopped && this.missingBytes > 0) this.begin()
  }

  /** Forgets everything, once the write under way is done. */
  remove(): void {
    this.removed = true
    this.stopped = true
    this.tellSettled()
    if (!this.writing) this.options.fork(this.forget)
  }

  /**
   * Everything that the log has is stored, and nothing is held for it any more; or the store has stopped, which it has
   * as well if it gets nothing done for long. To be run when nothing more will come. What is left is written at once.
   */
  readonly settled: Effect.Effect<void> = Effect.suspend(() => {
    if (!this.finishing) {
      this.finishing = true
      this.goOn?.()
      if (!this.writing && !this.stopped && this.stored !== undefined) this.begin()
    }
    return this.isSettled ? Effect.void : Effect.raceFirst(this.untilSettled, this.untilStalled)
  })

  private get isSettled(): boolean {
    return this.stopped || !this.writing && this.missingBytes <= 0
  }

  private readonly untilSettled = Effect.async<void>((resume) => {
    const tell = () => resume(Effect.void)
    this.waiting.add(tell)
    return Effect.sync(() => this.waiting.delete(tell))
  })

  private readonly untilStalled: Effect.Effect<void> = Effect.suspend(() => {
    const { end, options: { stallTimeout = Duration.seconds(30) } } = this
    const fail = Effect.sync(() => {
      const seconds = Duration.toSeconds(stallTimeout)
      this.stop(Option.some(new OutputStoreError({ operation: "write", cause: `nothing was done for ${seconds} s` })))
    })
    return Effect.zipRight(
      sleep(stallTimeout),
      Effect.suspend(() => this.end === end ? fail : this.untilStalled)
    )
  })

  private tellSettled(): void {
    if (!this.isSettled) return
    this.waiting.forEach((tell) => tell())
    this.waiting.clear()
  }

  private begin(): void {
    this.writing = true
    this.options.fork(this.write)
  }

  private stop(reason: Option.Option<OutputStoreError>): void {
    if (this.stopped) return
    this.error = reason
    this.stopped = true
    this.options.onStopped(reason)
    this.tellSettled()
  }

  private readonly write: Effect.Effect<void> = Effect.suspend(() => {
    const { log } = this.options
    const writeAll = Effect.whileLoop({
      while: () => !this.stopped && this.end < log.head,
      body: () => this.hasEnough ? this.writeBatch : Effect.zipRight(this.gather, this.writeBatch),
      step: () => {}
    })
    // Whoever has a little to write soon has more: what is held for it is let go of at the end.
    const rest = Effect.suspend(() =>
      this.stored !== undefined && (this.finishing || this.stopped) ? this.stored.rest : Effect.void
    )
    return Effect.yieldNow().pipe(
      // A store may do everything at once: whoever has called `advance` goes on before it is told so.
      Effect.zipRight(writeAll),
      Effect.zipRight(rest),
      // A store that dies must not leave a job waiting for it.
      Effect.catchAllCause((cause) => Effect.sync(() => this.stop(Option.some(errorOf(cause))))),
      Effect.zipRight(Effect.suspend(() => {
        this.writing = false
        if (this.removed) return this.forget
        // What came after the last look.
        this.advance()
        this.tellSettled()
        return Effect.void
      }))
    )
  })

  private get hasEnough(): boolean {
    const { log } = this.options
    return this.missingBytes >= minWrite || this.finishing || log.ended || log.isFull
  }

  private readonly gather = Effect.async<void>((resume) => {
    // The clock may jump.
    const wait = Math.max(patience, Math.min(pause, this.lastWrite + pause - Date.now()))
    const timer = setTimeout(() => this.goOn?.(), wait)
    this.goOn = () => {
      clearTimeout(timer)
      this.goOn = undefined
      resume(Effect.void)
    }
  })

  private readonly writeBatch = Effect.gen(this, function*() {
    const { log, onStored, open } = this.options
    this.stored ??= yield* open
    const to = Math.min(log.head, this.end + maxWrite)
    const chunks = Chunk.toReadonlyArray(log.read("all", this.end, to))
    const hasRoom = yield* this.stored.append(chunks)
    // A batch of the log may be smaller.
    const last = chunks.at(-1)
    this.end = last === undefined ? to : last.offset + last.bytes.length
    this.lastWrite = Date.now()
    if (this.stopped) return
    onStored(this.end)
    if (!hasRoom) this.stop(Option.none())
  })

  private readonly forget = Effect.suspend(() =>
    this.stored === undefined
      ? Effect.void
      : Effect.catchAllCause(this.stored.remove, (cause) => Effect.logWarning("Output could not be removed", cause))
  )
}

const errorOf = (cause: Cause.Cause<OutputStoreError>): OutputStoreError =>
  Option.getOrElse(
    Cause.failureOption(cause),
    () => new OutputStoreError({ operation: "write", cause: Cause.squash(cause) })
  )
