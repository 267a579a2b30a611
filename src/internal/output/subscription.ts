/**
 * One reader of a log: a position that moves on, and what to do when the log has left it behind.
 */
import * as Channel from "effect/Channel"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import {
  type CoordinatorStopped,
  OutputEvicted,
  type OutputStoreError,
  type SubscriberLimitReached
} from "../../JobError.ts"
import type { JobId } from "../../JobId.ts"
import type { Options, OutputChunk, OutputSelection } from "../../Output.ts"
import type { StoredOutput } from "../../OutputStore.ts"
import type { Archive } from "./archive.ts"
import type { OutputLog } from "./outputLog.ts"
import type { Listener, WakeUps } from "./wakeUps.ts"

export type ReadError = OutputEvicted | OutputStoreError | CoordinatorStopped

/** What is subscribed to: the output of one job. */
export interface Source {
  readonly id: JobId
  readonly log: OutputLog
  /** What a store keeps of the log, if there is one. */
  readonly archive: Archive | undefined
  readonly wakeUps: WakeUps
  /** Lets a subscription in, which then takes its place in the log. */
  readonly admit: (subscription: Subscription) => Effect.Effect<void, SubscriberLimitReached | CoordinatorStopped>
  /** A subscription has moved on that the log waits for. */
  readonly advanced: () => void
  /** Forgets a subscription, whether it was let in or not. */
  readonly dismiss: (subscription: Subscription) => void
}

/** Some chunks; or the end, with an error if it is not a good one. */
type Batch = Either.Either<Chunk.Chunk<OutputChunk>, Option.Option<ReadError>>

const endOfStream: Batch = Either.left(Option.none())

export class Subscription {
  /** The first byte that this reader has not had. */
  position = 0
  /** Whether the log must keep what this reader has not had. */
  readonly pins: boolean

  private readonly source: Source
  private readonly options: Options
  private readonly selection: OutputSelection
  private until = Infinity
  /** Whether it goes on with what is kept. So does, with its first bytes, who asked for what is kept of a tail. */
  private skips: boolean
  /** The bytes of a tail that memory had lost: how many, and where they end. */
  private lost = { bytes: 0, end: 0 }
  private listener: Listener | undefined

  constructor(source: Source, options: Options) {
    this.source = source
    this.options = options
    this.selection = options.source === "stdout" || options.source === "stderr" ? options.source : "all"
    this.skips = options.whenBehind === "skip"
    this.pins = options.whenBehind === "block"
  }

  /** Must come before the first `take`. `close` belongs after it, whatever came of it. */
  get open(): Effect.Effect<Subscription, SubscriberLimitReached | OutputStoreError | CoordinatorStopped> {
    return Effect.flatMap(
      this.source.admit(this),
      () => this.lost.bytes > 0 ? Effect.as(this.locate, this) : Effect.succeed(this)
    )
  }

  /** Gives back its place, at once. */
  get close(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.source.dismiss(this)
      return this.listener?.close ?? Effect.void
    })
  }

  /** Takes its place in the log as it is now. */
  begin(): void {
    const { options: { follow, from }, selection, source: { log } } = this
    if (typeof from === "object" && from !== null) {
      const tail = bytesOf(from.tail)
      this.position = log.tail(selection, tail)
      this.skips = true
      this.lost = { bytes: tail - log.size(selection), end: log.start(selection) }
    } else this.position = from === "end" ? log.head : typeof from === "number" ? bytesOf(from) : 0
    if (follow === false) this.until = log.head
  }

  /** Waits until the log may have grown or ended. The first time it only begins to listen: something may have come. */
  get wait(): Effect.Effect<void> {
    return this.listener?.wait ?? Effect.uninterruptible(Effect.map(this.source.wakeUps.listen, (listener) => {
      this.listener = listener
    }))
  }

  /** A tail may begin before what memory keeps, unless the store has not all of that. */
  private get locate(): Effect.Effect<void, OutputStoreError> {
    const { lost, selection, source: { archive } } = this
    if (archive?.stored === undefined || archive.end < lost.end) return Effect.void
    return Effect.map(archive.stored.tail(selection, lost.bytes, lost.end), (position) => {
      // A store may keep less than memory.
      this.position = Math.min(position, lost.end)
    })
  }

  /** The next batch; waits for it. */
  readonly next: Effect.Effect<Chunk.Chunk<OutputChunk>, Option.Option<ReadError>> = Effect.suspend(() =>
    this.take() ?? Effect.zipRight(this.wait, this.next)
  )

  /** Everything that came since the last batch, or `undefined` if that is nothing yet. */
  take(): Batch | Effect.Effect<Chunk.Chunk<OutputChunk>, Option.Option<ReadError>> | undefined {
    if (this.position >= this.until) return endOfStream
    const { selection, source: { archive, log } } = this
    const start = log.start(selection)
    if (this.position < start) {
      if (archive?.stored !== undefined && this.position < archive.end) return this.fetch(archive.stored, archive.end)
      const behind = this.fallBehind(start, archive?.error)
      if (behind !== undefined) return behind
    }
    const from = this.position
    const to = Math.min(log.head, this.until)
    if (from < to) {
      const chunks = log.read(selection, from, to)
      this.advance(to)
      if (chunks.length > 0) return Either.right(chunks)
    }
    if (this.position >= this.until) return endOfStream
    return log.ended ? Either.left(log.failure) : undefined
  }

  /** The next chunks out of the store: memory has lost them. */
  private fetch(stored: StoredOutput, end: number): ReturnType<Subscription["take"]> {
    const { selection, source: { log } } = this
    const start = Math.min(stored.start(selection), log.start(selection))
    if (this.position < start) {
      const behind = this.fallBehind(start)
      if (behind !== undefined) return behind
    }
    const from = this.position
    const to = Math.min(end, log.start(selection), this.until)
    if (from >= to) return this.take()
    return Effect.flatMap(Effect.mapError(stored.read(selection, from, to), Option.some), (chunks) => {
      const last = chunks.at(-1)
      if (last !== undefined) {
        this.advance(last.offset + last.bytes.length)
        return Effect.succeed(Chunk.unsafeFromArray(chunks))
      }
      // There is nothing of the source; unless it was evicted meanwhile.
      if (from >= stored.start(selection)) this.advance(to)
      return this.next
    })
  }

  /** Bytes up to `start` are gone: goes on there, if the reader wants that. */
  private fallBehind(start: number, error: Option.Option<OutputStoreError> = Option.none()): Batch | undefined {
    if (!this.skips) {
      return Either.left(
        Option.orElseSome(error, () => new OutputEvicted({ id: this.source.id, from: this.position, to: start }))
      )
    }
    this.position = start
    return undefined
  }

  private advance(to: number): void {
    this.position = to
    this.skips = this.options.whenBehind === "skip"
    if (this.pins) this.source.advanced()
  }
}

type OpenError = Effect.Effect.Error<Subscription["open"]>

/** Opens a subscription for as long as the scope is open; each run of the result waits for the next batch. */
export const pull = <E>(
  subscribe: Effect.Effect<Subscription, E>
): Effect.Effect<
  Effect.Effect<Chunk.Chunk<OutputChunk>, Option.Option<ReadError>>,
  E | OpenError,
  Scope.Scope
> =>
  subscribe.pipe(
    Effect.tap((subscription) => Effect.addFinalizer(() => subscription.close)),
    Effect.flatMap((subscription) => subscription.open),
    Effect.map((subscription) => subscription.next)
  )

/**
 * Opens a subscription and gives all its batches, as the channel of a `Stream`. A loop of its own is the cheapest form
 * that a `Stream` has, and one without a scope costs a third less to begin.
 */
export const channel = <E>(
  subscribe: Effect.Effect<Subscription, E>
): Channel.Channel<Chunk.Chunk<OutputChunk>, unknown, E | OpenError | ReadError> =>
  Channel.suspend(() => {
    let close: Effect.Effect<void> = Effect.void
    const open = Effect.flatMap(subscribe, (subscription) => {
      close = subscription.close
      return subscription.open
    })
    return Channel.ensuring(Channel.flatMap(Channel.fromEffect(open), batches), Effect.suspend(() => close))
  })

const batches = (
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

const bytesOf = (count: number | undefined = 0): number => count > 0 ? Math.floor(count) : 0
