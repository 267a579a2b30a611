/**
 * What a store keeps of a log, and the fiber that brings it there: it runs while the log is ahead of the store.
 */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { OutputStoreError } from "../../JobError.ts"
import type { StoredOutput } from "../../OutputStore.ts"
import type { OutputLog } from "./outputLog.ts"

/** How many bytes are worth a write: each is a trip to another thread and back. And how many are written at once. */
const minWrite = 2 * 1024 * 1024
const maxWrite = 4 * minWrite

/** How long to wait for as many as are worth it, in milliseconds. */
const patience = 5

export interface Options {
  readonly log: OutputLog
  readonly open: Effect.Effect<StoredOutput, OutputStoreError>
  readonly fork: (effect: Effect.Effect<void>) => void
  /** The store has everything up to here. */
  readonly onStored: (position: number) => void
  /** The store keeps no more: it has failed, or it is full. */
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
  /** Ends the wait for more bytes. */
  private goOn: (() => void) | undefined
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

  /** Stores what the log has more than the store. */
  advance(): void {
    if (this.goOn !== undefined && this.hasEnough) this.goOn()
    if (this.writing || this.stopped || this.end >= this.options.log.head) return
    this.writing = true
    this.options.fork(this.write)
  }

  /** Forgets everything, once the write under way is done. */
  remove(): void {
    this.removed = true
    this.stopped = true
    if (!this.writing) this.options.fork(this.forget)
  }

  private readonly write: Effect.Effect<void> = Effect.suspend(() => {
    const { log, onStopped } = this.options
    return Effect.whileLoop({
      while: () => !this.stopped && this.end < log.head,
      body: () => this.hasEnough ? this.writeBatch : Effect.zipRight(this.gather, this.writeBatch),
      step: () => {}
    }).pipe(
      Effect.zipRight(Effect.suspend(() => this.stored?.rest ?? Effect.void)),
      // A store that dies must not leave a job waiting for it.
      Effect.catchAllCause((cause) =>
        Effect.sync(() => {
          this.error = Option.some(errorOf(cause))
          this.stopped = true
          onStopped(this.error)
        })
      ),
      Effect.zipRight(Effect.suspend(() => {
        this.writing = false
        if (this.removed) return this.forget
        // What came after the last look.
        this.advance()
        return Effect.void
      }))
    )
  })

  private get hasEnough(): boolean {
    const { log } = this.options
    return log.head - this.end >= minWrite || log.isFull
  }

  private readonly gather = Effect.async<void>((resume) => {
    const timer = setTimeout(() => this.goOn?.(), patience)
    this.goOn = () => {
      clearTimeout(timer)
      this.goOn = undefined
      resume(Effect.void)
    }
  })

  private readonly writeBatch = Effect.gen(this, function*() {
    const { log, onStopped, onStored, open } = this.options
    this.stored ??= yield* open
    const to = Math.min(log.head, this.end + maxWrite)
    const hasRoom = yield* this.stored.append(Chunk.toReadonlyArray(log.read("all", this.end, to)))
    this.end = to
    onStored(to)
    if (hasRoom) return
    this.stopped = true
    onStopped(Option.none())
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
