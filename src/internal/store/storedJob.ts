/**
 * The files of one job: a segment that grows, and older ones that do not.
 */
import type * as PlatformError from "@effect/platform/Error"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { OutputStoreError } from "../../JobError.ts"
import type { OutputChunk, OutputSelection, OutputSource } from "../../Output.ts"
import type { Folder } from "./folder.ts"
import type { Ledger } from "./ledger.ts"
import { timeOf } from "./runs.ts"
import { Segment } from "./segment.ts"

/** How many bytes are read at once. */
const maxRead = 1024 * 1024

export class StoredJob {
  /** Bytes on disk. */
  size = 0
  private readonly folder: Folder
  private readonly segmentBytes: number
  private readonly ledger: Ledger<StoredJob>
  private readonly pinned: () => number
  /** One at a time. Readers are not kept out: they must never keep the writer waiting. */
  private readonly changes = Effect.unsafeMakeSemaphore(1)
  private segments: ReadonlyArray<Segment>
  private sealed = 0
  private removed = false
  /** Up to here, bytes of each source are evicted. */
  private readonly gone = { stdout: 0, stderr: 0 }

  /** From `pinned` on nothing may be evicted. */
  constructor(folder: Folder, segmentBytes: number, ledger: Ledger<StoredJob>, pinned: () => number) {
    this.folder = folder
    this.segmentBytes = segmentBytes
    this.ledger = ledger
    this.pinned = pinned
    this.segments = [new Segment(folder, 0)]
  }

  get isSegmented(): boolean {
    return this.segments.length > 1
  }

  get isPinned(): boolean {
    return this.first.end > this.pinned()
  }

  start(selection: OutputSelection): number {
    return selection === "all" ? this.first.base : this.gone[selection]
  }

  append(chunks: ReadonlyArray<OutputChunk>): Effect.Effect<void, OutputStoreError> {
    return this.change(
      "write",
      Effect.gen(this, function*() {
        const parts = [...chunks]
        for (let [first] = parts; first !== undefined; [first] = parts) {
          const begin = timeOf(first)
          yield* this.prepare(begin)
          const { last } = this
          const end = parts.findIndex((chunk) => !last.takes(timeOf(chunk), begin))
          yield* this.write(parts.splice(0, end < 0 ? parts.length : end))
        }
      })
    )
  }

  get rest(): Effect.Effect<void, OutputStoreError> {
    return this.change("write", Effect.suspend(() => this.last.rest))
  }

  read(
    selection: OutputSelection,
    from: number,
    to: number
  ): Effect.Effect<ReadonlyArray<OutputChunk>, OutputStoreError> {
    return wrap(
      "read",
      Effect.gen(this, function*() {
        for (const segment of this.segments) {
          if (segment.end <= from) continue
          if (segment.base >= to) break
          const chunks = yield* this.unlessEvicted(segment, segment.read(selection, from, to, maxRead))
          // Nothing beyond what is missing: there must be no gap.
          if (Option.isNone(chunks) && this.start(selection) > from) return []
          if (Option.isSome(chunks) && chunks.value.length > 0) return chunks.value
        }
        return []
      })
    )
  }

  tail(selection: OutputSelection, bytes: number, to: number): Effect.Effect<number, OutputStoreError> {
    return selection === "all"
      ? Effect.succeed(Math.max(this.start("all"), to - bytes))
      : wrap("read", this.tailOf(selection, bytes, to))
  }

  /** Removes the oldest segment; a job that has but one begins a new one. */
  get evict(): Effect.Effect<void, OutputStoreError> {
    return this.change(
      "remove",
      Effect.suspend(() => {
        const { first } = this
        // Before the files are: whoever misses one sees that it was evicted.
        this.segments = this.isSegmented ? this.segments.slice(1) : [new Segment(this.folder, first.end)]
        this.gone.stdout = Math.max(this.gone.stdout, first.endOf.stdout)
        this.gone.stderr = Math.max(this.gone.stderr, first.endOf.stderr)
        this.forget(first)
        return first.remove
      })
    )
  }

  get remove(): Effect.Effect<void, OutputStoreError> {
    return Effect.suspend(() => {
      // At once, for what waits for a disk that hangs is no longer anybody's.
      this.removed = true
      this.segments.forEach((segment) => this.forget(segment))
      const { last } = this
      return this.change("remove", Effect.zipRight(last.rest, this.folder.remove))
    })
  }

  private get first(): Segment {
    return this.segments[0] as Segment
  }

  private get last(): Segment {
    return this.segments[this.segments.length - 1] as Segment
  }

  /** Begins the next segment if the last one is full, or cannot hold what came at a time. */
  private prepare(at: number): Effect.Effect<void, PlatformError.PlatformError> {
    const { last } = this
    // Not as soon as it is full: who follows a file needs time to read what is written last before its name changes.
    const isFull = last.size > 0 && last.size >= this.segmentBytes
    if (!isFull && last.takes(at, at)) return Effect.void
    return Effect.map(last.seal(++this.sealed), () => {
      this.segments = [...this.segments, new Segment(this.folder, last.end)]
    })
  }

  private write(chunks: ReadonlyArray<OutputChunk>): Effect.Effect<void, PlatformError.PlatformError> {
    const { last } = this
    const before = last.size
    return Effect.map(last.append(chunks), () => {
      if (this.removed) return
      this.size += last.size - before
      this.ledger.add(last, this, last.size - before)
    })
  }

  private forget(segment: Segment): void {
    this.size -= segment.size
    this.ledger.delete(segment)
  }

  private tailOf(source: OutputSource, bytes: number, to: number): Effect.Effect<number, PlatformError.PlatformError> {
    return Effect.gen(this, function*() {
      let missing = bytes
      for (const segment of this.segments.filter((segment) => segment.base < to).reverse()) {
        const count = yield* this.unlessEvicted(segment, segment.countBefore(source, to))
        if (Option.isNone(count)) break
        if (count.value >= missing) {
          const offset = segment.offsetOf(source, count.value - missing)
          return Option.getOrElse(yield* this.unlessEvicted(segment, offset), () => this.start(source))
        }
        missing -= count.value
      }
      return this.start(source)
    })
  }

  /** `None` if it failed because the segment was evicted meanwhile. */
  private unlessEvicted<A>(
    segment: Segment,
    read: Effect.Effect<A, PlatformError.PlatformError>
  ): Effect.Effect<Option.Option<A>, PlatformError.PlatformError> {
    return Effect.catchAllCause(
      Effect.map(read, Option.some),
      (cause) => this.segments.includes(segment) ? Effect.failCause(cause) : Effect.succeedNone
    )
  }

  private change<A>(
    operation: OutputStoreError["operation"],
    effect: Effect.Effect<A, PlatformError.PlatformError>
  ): Effect.Effect<A, OutputStoreError> {
    return wrap(operation, Effect.uninterruptible(this.changes.withPermits(1)(effect)))
  }
}

/** A `FileSystem` may also die, when a file cannot be closed. */
export const wrap = <A>(
  operation: OutputStoreError["operation"],
  effect: Effect.Effect<A, PlatformError.PlatformError>
): Effect.Effect<A, OutputStoreError> =>
  Effect.catchAllCause(effect, (cause) =>
    Cause.isInterruptedOnly(cause)
      ? Effect.interrupt
      : Effect.fail(new OutputStoreError({ operation, cause: Cause.squash(cause) })))
