/**
 * One reader of a log: a position that moves on, and what to do when the log has left it behind.
 */
import * as Channel from "effect/Channel"
import type * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { type CoordinatorStopped, OutputEvicted } from "../JobError.ts"
import type { JobId } from "../JobId.ts"
import type { Options, OutputChunk } from "../Output.ts"
import type { OutputLog, Selection } from "./outputLog.ts"

export type ReadError = OutputEvicted | CoordinatorStopped

/** Some chunks; or the end, with an error if it is not a good one. */
type Batch = Either.Either<Chunk.Chunk<OutputChunk>, Option.Option<ReadError>>

const endOfStream: Batch = Either.left(Option.none())

export class Subscription {
  /** The first byte that this reader has not had. */
  position: number
  /** Whether the log must keep what this reader has not had. */
  readonly pins: boolean
  /** Waits until the log has grown or ended. Nobody waits for a log that had ended before. */
  wait: Effect.Effect<void> = Effect.void

  private readonly id: JobId
  private readonly log: OutputLog
  private readonly selection: Selection
  private readonly until: number
  private readonly skips: boolean
  private readonly onAdvance: () => void

  constructor(id: JobId, log: OutputLog, options: Options, onAdvance: () => void) {
    this.id = id
    this.log = log
    this.selection = options.source ?? "all"
    this.position = positionOf(options.from, log, this.selection)
    this.until = options.follow === false ? log.head : Infinity
    this.skips = options.whenBehind === "skip"
    this.pins = options.whenBehind === "block"
    this.onAdvance = onAdvance
  }

  /** Everything that came since the last batch, or `undefined` if that is nothing yet. */
  take(): Batch | undefined {
    const { log, selection } = this
    const start = log.start(selection)
    if (this.position < start) {
      if (!this.skips) {
        return Either.left(Option.some(new OutputEvicted({ id: this.id, from: this.position, to: start })))
      }
      this.position = start
    }
    const from = this.position
    const to = Math.min(log.head, this.until)
    if (from < to) {
      this.position = to
      if (this.pins) this.onAdvance()
      const chunks = log.read(selection, from, to)
      if (chunks.length > 0) return Either.right(chunks)
    }
    if (this.position >= this.until) return endOfStream
    return log.ended ? Either.left(log.failure) : undefined
  }
}

/** The next batch; waits for it. */
export const pull = (
  subscription: Subscription
): Effect.Effect<Chunk.Chunk<OutputChunk>, Option.Option<ReadError>> => {
  const next: Effect.Effect<Chunk.Chunk<OutputChunk>, Option.Option<ReadError>> = Effect.suspend(() =>
    subscription.take() ?? Effect.zipRight(subscription.wait, next)
  )
  return next
}

/** All batches, as the channel of a `Stream`: a loop of its own is the cheapest form that a `Stream` has. */
export const channel = (
  subscription: Subscription
): Channel.Channel<Chunk.Chunk<OutputChunk>, unknown, ReadError> => {
  const wait = Channel.fromEffect(Effect.suspend(() => subscription.wait))
  const next: Channel.Channel<Chunk.Chunk<OutputChunk>, unknown, ReadError> = Channel.suspend(() => {
    const batch = subscription.take()
    if (batch === undefined) return Channel.flatMap(wait, () => next)
    return Either.match(batch, {
      onRight: (chunks) => Channel.flatMap(Channel.write(chunks), () => next),
      onLeft: Option.match({ onNone: () => Channel.void, onSome: Channel.fail })
    })
  })
  return next
}

/** Where a reader begins. */
const positionOf = (from: Options["from"], log: OutputLog, selection: Selection): number => {
  if (from === undefined || from === "start") return 0
  if (from === "end") return log.head
  return typeof from === "number" ? (from > 0 ? Math.floor(from) : 0) : log.tail(selection, Math.floor(from.tail))
}
