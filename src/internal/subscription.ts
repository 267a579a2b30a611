/**
 * One reader of a log: a position that moves on, and what to do when the log has left it behind.
 */
import * as Channel from "effect/Channel"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { type CoordinatorStopped, OutputEvicted, type OutputStoreError } from "../JobError.ts"
import type { JobId } from "../JobId.ts"
import type { Options, OutputChunk } from "../Output.ts"
import type { StoredOutput } from "../OutputStore.ts"
import type { Archive } from "./archive.ts"
import type { OutputLog, Selection } from "./outputLog.ts"

export type ReadError = OutputEvicted | OutputStoreError | CoordinatorStopped

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
  private readonly archive: Archive | undefined
  private readonly selection: Selection
  private readonly until: number
  private readonly skips: boolean
  private readonly tail: number
  private readonly onAdvance: () => void

  constructor(
    id: JobId,
    log: OutputLog,
    archive: Archive | undefined,
    options: Options,
    onAdvance: () => void
  ) {
    this.id = id
    this.log = log
    this.archive = archive
    this.selection = options.source ?? "all"
    this.tail = typeof options.from === "object" ? Math.floor(options.from.tail) : 0
    this.position = positionOf(options.from, log, this.selection)
    this.until = options.follow === false ? log.head : Infinity
    this.skips = options.whenBehind === "skip"
    this.pins = options.whenBehind === "block"
    this.onAdvance = onAdvance
  }

  /** A tail may begin before what memory keeps. */
  readonly locate: Effect.Effect<void, OutputStoreError> = Effect.suspend(() => {
    const { archive, log, selection } = this
    const missing = this.tail - log.size(selection)
    if (missing <= 0 || log.start(selection) === 0 || archive?.stored === undefined) return Effect.void
    return Effect.map(archive.stored.tail(selection, missing, log.start(selection)), (position) => {
      this.position = position
    })
  })

  /** Everything that came since the last batch, or `undefined` if that is nothing yet. */
  take(): Batch | Effect.Effect<Chunk.Chunk<OutputChunk>, Option.Option<ReadError>> | undefined {
    if (this.position >= this.until) return endOfStream
    const { archive, log, selection } = this
    const start = log.start(selection)
    if (this.position < start) {
      if (archive?.stored !== undefined && this.position < archive.end) return this.fetch(archive.stored, archive.end)
      const behind = this.fallBehind(start)
      if (behind !== undefined) return behind
    }
    const from = this.position
    const to = Math.min(log.head, this.until)
    if (from < to) {
      this.advance(to)
      const chunks = log.read(selection, from, to)
      if (chunks.length > 0) return Either.right(chunks)
    }
    if (this.position >= this.until) return endOfStream
    return log.ended ? Either.left(log.failure) : undefined
  }

  /** The next chunks out of the store: memory has lost them. */
  private fetch(
    stored: StoredOutput,
    end: number
  ): Batch | Effect.Effect<Chunk.Chunk<OutputChunk>, Option.Option<ReadError>> {
    const start = stored.start(this.selection)
    if (this.position < start) {
      const behind = this.fallBehind(start)
      if (behind !== undefined) return behind
    }
    const to = Math.min(end, this.log.start(this.selection), this.until)
    if (this.position >= to) return Either.right(Chunk.empty())
    return stored.read(this.selection, this.position, to).pipe(
      Effect.mapBoth({
        onSuccess: (chunks) => {
          const last = chunks.at(-1)
          this.advance(last === undefined ? to : last.offset + last.bytes.length)
          return Chunk.unsafeFromArray(chunks)
        },
        onFailure: Option.some
      })
    )
  }

  /** Bytes up to `start` are gone: goes on there, if the reader wants that. */
  private fallBehind(start: number): Batch | undefined {
    const error = this.archive?.error ?? Option.none()
    if (!this.skips) {
      return Either.left(
        Option.orElseSome(error, () => new OutputEvicted({ id: this.id, from: this.position, to: start }))
      )
    }
    this.advance(start)
    return undefined
  }

  private advance(to: number): void {
    this.position = to
    if (this.pins) this.onAdvance()
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
    return Either.isEither(batch) ? emit(batch) : Channel.flatMap(Channel.fromEffect(Effect.either(batch)), emit)
  })
  const emit = Either.match({
    onRight: (chunks: Chunk.Chunk<OutputChunk>) => Channel.flatMap(Channel.write(chunks), () => next),
    onLeft: Option.match({ onNone: () => Channel.void, onSome: (error: ReadError) => Channel.fail(error) })
  })
  return next
}

/** Where a reader begins. */
const positionOf = (from: Options["from"], log: OutputLog, selection: Selection): number => {
  if (from === undefined || from === "start") return 0
  if (from === "end") return log.head
  return typeof from === "number" ? (from > 0 ? Math.floor(from) : 0) : log.tail(selection, Math.floor(from.tail))
}
