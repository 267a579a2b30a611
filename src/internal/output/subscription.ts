/**
 * One reader of a log: a position that moves on, and what to do when the log has left it behind.
 */
import * as Channel from "effect/Channel"
import * as Chunk from "effect/Chunk"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import {
  type CoordinatorStopped,
  type JobNotFound,
  OutputEvicted,
  OutputStoreError,
  type SubscriberLimitReached
} from "../../JobError.ts"
import type { JobId } from "../../JobId.ts"
import type { Options, OutputChunk, OutputSelection, OutputSource } from "../../Output.ts"
import type { StoredOutput } from "../../OutputStore.ts"
import type { Archive } from "./archive.ts"
import type { OutputLog } from "./outputLog.ts"
import { batchEnd, maxBatchBytes } from "./view.ts"
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
  readonly admit: (
    subscription: Subscription
  ) => Effect.Effect<void, SubscriberLimitReached | JobNotFound | CoordinatorStopped>
  /** A subscription has moved on that the log waits for. */
  readonly advanced: () => void
  /** Forgets a subscription, whether it was let in or not. */
  readonly dismiss: (subscription: Subscription) => void
}

/** Some chunks; or the end, with an error if it is not a good one. */
type Batch = Either.Either<Chunk.Chunk<OutputChunk>, Option.Option<ReadError>>

type Fetched = Effect.Effect<Chunk.Chunk<OutputChunk>, Option.Option<ReadError>>

const endOfStream: Option.Option<never> = Option.none()

export class Subscription {
  /** The first byte that this reader has not had. */
  position = 0
  /** Whether the log must keep what this reader has not had. */
  readonly pins: boolean

  private readonly source: Source
  private readonly options: Options
  private readonly selection: OutputSelection
  private until = Infinity
  /** How many bytes it still wants. */
  private wanted: number
  /** Whether it goes on with what is kept. So does, with its first bytes, who asked for what is kept of a tail. */
  private skips: boolean
  /** Where what it has missed ends, as long as nothing that came afterwards shows it. */
  private gap: { readonly source: OutputSource; readonly offset: number } | undefined
  /** The bytes of a tail that memory had lost: how many, and where they end. */
  private lost = { bytes: 0, end: 0 }
  /** How far to look in the store at once: further where the source is silent. */
  private span = maxBatchBytes
  private listener: Listener | undefined

  constructor(source: Source, options: Options) {
    this.source = source
    this.options = options
    this.selection = options.source === "stdout" || options.source === "stderr" ? options.source : "all"
    this.wanted = bytesOf(options.maxBytes ?? Infinity)
    this.skips = options.whenBehind === "skip"
    this.pins = options.whenBehind === "block"
  }

  /** Must come before the first `take`. `close` belongs after it, whatever came of it. */
  get open(): Effect.Effect<
    Subscription,
    SubscriberLimitReached | JobNotFound | OutputStoreError | CoordinatorStopped
  > {
    return Effect.flatMap(
      this.source.admit(this),
      () => this.lost.bytes > 0 ? Effect.as(this.locate, this) : Effect.succeed(this)
    )
  }

  /** Gives back its place, at once. */
  get close(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { listener } = this
      this.listener = undefined
      this.source.dismiss(this)
      return listener?.close ?? Effect.void
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
    this.letGo()
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
    const { stored } = archive
    return Effect.map(attempt(() => stored.tail(selection, lost.bytes, lost.end)), (position) => {
      // A store may keep less than memory.
      this.position = Math.min(position, lost.end)
    })
  }

  /** The next batch; waits for it. */
  readonly next: Fetched = Effect.suspend(() => this.take() ?? Effect.zipRight(this.wait, this.next))

  /** The next batch of what has come since the last, or `undefined` if that is nothing yet. */
  take(): Batch | Fetched | undefined {
    if (this.isSatisfied) return this.end(endOfStream)
    const { selection, source: { archive, log } } = this
    if (this.position < log.start(selection)) {
      if (archive?.stored !== undefined && this.position < archive.end) return this.fetch(archive.stored, archive.end)
      const behind = this.fallBehind((selection) => log.start(selection), archive?.error)
      if (behind !== undefined) return behind
    }
    const from = this.position
    const to = Math.min(log.head, this.until)
    if (from < to) {
      const batch = log.batch(selection, from, to)
      if (batch.chunks.length > 0) return Either.right(this.deliver(batch.chunks, batch.to))
      this.advance(batch.to)
    }
    if (this.isSatisfied) return this.end(endOfStream)
    return log.ended ? this.end(log.failure) : undefined
  }

  /** The next chunks out of the store: memory has lost them. */
  private fetch(stored: StoredOutput, end: number): ReturnType<Subscription["take"]> {
    const { selection, source: { log } } = this
    const startOf = (selection: OutputSelection) => Math.min(stored.start(selection), log.start(selection))
    if (this.position < startOf(selection)) {
      const behind = this.fallBehind(startOf)
      if (behind !== undefined) return behind
    }
    const from = this.position
    const limit = Math.min(end, log.start(selection), this.until)
    if (from >= limit) return this.take()
    const to = Math.min(limit, batchEnd(from) - maxBatchBytes + this.span)
    return Effect.flatMap(Effect.mapError(attempt(() => stored.read(selection, from, to)), Option.some), (read) => {
      const chunks = firstOf(read, maxBatchBytes)
      const last = chunks.at(-1)
      if (last !== undefined) {
        this.span = maxBatchBytes
        return Effect.succeed(this.deliver(Chunk.unsafeFromArray(chunks.map(plain)), last.offset + last.bytes.length))
      }
      // There is nothing of the source; unless it was evicted meanwhile.
      if (from >= stored.start(selection)) {
        this.span *= 2
        this.advance(to)
      }
      return this.next
    })
  }

  /** Bytes are gone: goes on with what is kept, if the reader wants that. */
  private fallBehind(
    startOf: (selection: OutputSelection) => number,
    error: Option.Option<OutputStoreError> = Option.none()
  ): Batch | undefined {
    const { position, selection, until } = this
    const start = startOf(selection)
    if (!this.skips) {
      return Either.left(
        Option.orElseSome(error, () => new OutputEvicted({ id: this.source.id, from: position, to: start }))
      )
    }
    this.gap = {
      source: selection === "all" ? startOf("stderr") > startOf("stdout") ? "stderr" : "stdout" : selection,
      offset: Math.min(start, until)
    }
    this.position = start
    return undefined
  }

  private get isSatisfied(): boolean {
    return this.position >= this.until || this.wanted === 0
  }

  /** Nothing more comes. What was missed just before shows as a chunk without bytes: there is no other to show it. */
  private end(reason: Option.Option<ReadError>): Batch {
    const { gap, source: { log } } = this
    if (gap === undefined) return Either.left(reason)
    this.gap = undefined
    return Either.right(Chunk.of({ ...gap, bytes: new Uint8Array(0), at: DateTime.unsafeMake(log.latest) }))
  }

  /** No more of some chunks, which reach up to an offset, than the reader wants. */
  private deliver(chunks: Chunk.Chunk<OutputChunk>, to: number): Chunk.Chunk<OutputChunk> {
    this.gap = undefined
    if (this.wanted === Infinity) {
      this.advance(to)
      return chunks
    }
    const taken = firstOf(Chunk.toReadonlyArray(chunks), this.wanted)
    this.wanted -= taken.reduce((size, { bytes }) => size + bytes.length, 0)
    this.advance(to)
    return Chunk.unsafeFromArray(taken)
  }

  /** A log need keep nothing for who wants nothing more, even if it never asks for its end. */
  private letGo(): void {
    if (this.isSatisfied) this.position = Infinity
  }

  private advance(to: number): void {
    this.position = to
    this.letGo()
    this.skips = this.options.whenBehind === "skip"
    if (this.pins) this.source.advanced()
  }
}

/** A store may also die: its readers must not. */
const attempt = <A>(read: () => Effect.Effect<A, OutputStoreError>): Effect.Effect<A, OutputStoreError> =>
  Effect.catchAllDefect(Effect.suspend(read), (cause) => new OutputStoreError({ operation: "read", cause }))

/** Chunks with the first so many bytes of what some have. */
const firstOf = (chunks: ReadonlyArray<OutputChunk>, maxBytes: number): ReadonlyArray<OutputChunk> => {
  let size = 0
  for (const [index, chunk] of chunks.entries()) {
    size += chunk.bytes.length
    if (size === maxBytes) return chunks.slice(0, index + 1)
    if (size > maxBytes) {
      const bytes = chunk.bytes.subarray(0, chunk.bytes.length - (size - maxBytes))
      return [...chunks.slice(0, index), ...bytes.length > 0 ? [{ ...chunk, bytes }] : []]
    }
  }
  return chunks
}

/** With plain bytes: `slice` of a `Buffer` would not copy them. */
const plain = (chunk: OutputChunk): OutputChunk => {
  const { buffer, byteOffset, constructor, length } = chunk.bytes
  return constructor === Uint8Array ? chunk : { ...chunk, bytes: new Uint8Array(buffer, byteOffset, length) }
}

type OpenError = Effect.Effect.Error<Subscription["open"]>

/**
 * Opens a subscription for as long as the scope is open, or until it has ended or failed; each run of the result waits
 * for the next batch. Any number of fibers may run it: each batch goes to one, and the end to all.
 */
export const pull = <E>(
  subscribe: Effect.Effect<Subscription, E>
): Effect.Effect<Fetched, E | OpenError, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      // Of its own: the scope may be one in which others are opened again and again.
      const scope = yield* Scope.fork(yield* Effect.scope, ExecutionStrategy.sequential)
      const subscription = yield* subscribe.pipe(
        Effect.tap((subscription) => Scope.addFinalizer(scope, subscription.close)),
        Effect.flatMap((subscription) => subscription.open),
        restore,
        Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
      )
      return shared(subscription, Scope.close(scope, Exit.void))
    })
  )

const shared = (subscription: Subscription, close: Effect.Effect<void>): Fetched => {
  const turn = Effect.unsafeMakeSemaphore(1)
  /** Whether a fiber has its turn, in which it waits or reads from the store; and what it has found for the first to come. */
  let isTaken = false
  let found: Batch | undefined
  let end: Option.Option<ReadError> | undefined

  const look = Effect.suspend(() => {
    if (found !== undefined || end !== undefined) return Effect.void
    const batch = subscription.take()
    if (batch === undefined) return subscription.wait
    return Effect.map(Effect.either(batch), (batch) => {
      found = batch
    })
  })
  const leave = Effect.suspend(() => {
    isTaken = false
    return turn.release(1)
  })
  const lookInTurn = Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(restore(turn.take(1)), () => {
      isTaken = true
      return Effect.ensuring(restore(look), leave)
    })
  )
  const next: Fetched = Effect.suspend(() => {
    if (end === undefined) {
      const batch = found ?? (isTaken ? undefined : subscription.take())
      if (batch === undefined || !Either.isEither(batch)) return Effect.zipRight(lookInTurn, next)
      found = undefined
      if (Either.isRight(batch)) return batch
      end = batch.left
    }
    return Effect.zipRight(close, Effect.fail(end))
  })
  return next
}

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
  const next = (): Channel.Channel<Chunk.Chunk<OutputChunk>, unknown, ReadError> => {
    const batch = subscription.take()
    if (batch === undefined) return Channel.flatMap(wait, next)
    return Either.isEither(batch) ? emit(batch) : Channel.flatMap(Channel.fromEffect(Effect.either(batch)), emit)
  }
  const emit = Either.match({
    onRight: (chunks: Chunk.Chunk<OutputChunk>) => Channel.flatMap(Channel.write(chunks), next),
    onLeft: Option.match({ onNone: () => Channel.void, onSome: (error: ReadError) => Channel.fail(error) })
  })
  return Channel.suspend(next)
}

const bytesOf = (count: number | undefined = 0): number => count > 0 ? Math.floor(count) : 0
