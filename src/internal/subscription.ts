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
  private readonly whenBehind: Options["whenBehind"]
  /** Whether it goes on with what is kept. So does, with its first bytes, who asked for what is kept of a tail. */
  private skips: boolean
  /** The bytes of a tail that memory had lost: how many, and where they end. */
  private readonly lost: { readonly bytes: number; readonly end: number }
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
    this.selection = options.source === "stdout" || options.source === "stderr" ? options.source : "all"
    const tail = typeof options.from === "object" ? bytesOf(options.from?.tail) : undefined
    this.position = tail === undefined ? positionOf(options.from, log) : log.tail(this.selection, tail)
    this.lost = { bytes: (tail ?? 0) - log.size(this.selection), end: log.start(this.selection) }
    this.until = options.follow === false ? log.head : Infinity
    this.whenBehind = options.whenBehind
    this.skips = this.whenBehind === "skip" || tail !== undefined
    this.pins = this.whenBehind === "block"
    this.onAdvance = onAdvance
  }

  /** A tail may begin before what memory keeps, unless the store has not all of that. */
  readonly locate: Effect.Effect<void, OutputStoreError> = Effect.suspend(() => {
    const { archive, lost, selection } = this
    if (lost.bytes <= 0 || archive?.stored === undefined || archive.end < lost.end) return Effect.void
    return Effect.map(archive.stored.tail(selection, lost.bytes, lost.end), (position) => {
      // A store may keep less than memory.
      this.position = Math.min(position, lost.end)
    })
  })

  /** Everything that came since the last batch, or `undefined` if that is nothing yet. */
  take(): Batch | Effect.Effect<Chunk.Chunk<OutputChunk>, Option.Option<ReadError>> | undefined {
    if (this.position >= this.until) return endOfStream
    const { archive, log, selection } = this
    const start = log.start(selection)
    if (this.position < start) {
      if (archive?.stored !== undefined && this.position < archive.end) return this.fetch(archive.stored, archive.end)
      const behind = this.fallBehind(start, archive?.error)
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
  private fetch(stored: StoredOutput, end: number): ReturnType<Subscription["take"]> {
    const { log, selection } = this
    const start = Math.min(stored.start(selection), log.start(selection))
    if (this.position < start) {
      const behind = this.fallBehind(start)
      if (behind !== undefined) return behind
    }
    const from = this.position
    const to = Math.min(end, log.start(selection), this.until)
    if (from >= to) return this.take()
    return Effect.flatMap(Effect.mapError(stored.read(selection, from, to), Option.some), (chunks) => {
      // Some of it may have been evicted meanwhile, and be missing here.
      if (from < stored.start(selection)) return pull(this)
      const last = chunks.at(-1)
      this.advance(last === undefined ? to : last.offset + last.bytes.length)
      return last === undefined ? pull(this) : Effect.succeed(Chunk.unsafeFromArray(chunks))
    })
  }

  /** Bytes up to `start` are gone: goes on there, if the reader wants that. */
  private fallBehind(start: number, error: Option.Option<OutputStoreError> = Option.none()): Batch | undefined {
    if (!this.skips) {
      return Either.left(
        Option.orElseSome(error, () => new OutputEvicted({ id: this.id, from: this.position, to: start }))
      )
    }
    this.position = start
    return undefined
  }

  private advance(to: number): void {
    this.position = to
    this.skips = this.whenBehind === "skip"
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
const positionOf = (from: Options["from"], log: OutputLog): number =>
  from === "end" ? log.head : typeof from === "number" ? bytesOf(from) : 0

const bytesOf = (count: number | undefined = 0): number => count > 0 ? Math.floor(count) : 0
