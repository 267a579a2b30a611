/**
 * The files of one job: a segment that grows, and older ones that do not.
 */
import type * as PlatformError from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { OutputStoreError } from "../../JobError.ts"
import type { OutputChunk, OutputSelection, OutputSource } from "../../Output.ts"
import { Segment } from "./segment.ts"

/** How many bytes are read at once. */
const maxRead = 1024 * 1024

export class StoredJob {
  private readonly fs: FileSystem.FileSystem
  private readonly directory: string
  private readonly segmentBytes: number
  private readonly nextAge: () => number
  private readonly pinned: () => number
  /** One at a time. Readers are not kept out: they must never keep the writer waiting. */
  private readonly changes = Effect.unsafeMakeSemaphore(1)
  private segments: ReadonlyArray<Segment>
  private sealed = 0
  /** Up to here, bytes of each source are evicted. */
  private readonly gone = { stdout: 0, stderr: 0 }

  /** From `pinned` on nothing may be evicted. */
  constructor(
    fs: FileSystem.FileSystem,
    directory: string,
    segmentBytes: number,
    nextAge: () => number,
    pinned: () => number
  ) {
    this.fs = fs
    this.directory = directory
    this.segmentBytes = segmentBytes
    this.nextAge = nextAge
    this.pinned = pinned
    this.segments = [this.newSegment(0)]
  }

  /** Bytes on disk. */
  get size(): number {
    return this.segments.reduce((size, segment) => size + segment.size, 0)
  }

  /** When its oldest segment began, among those of all jobs. */
  get age(): number {
    return this.first.age
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
        // Not as soon as it is full: who follows a file needs time to read what is written last before its name changes.
        if (this.last.size > 0 && this.last.size >= this.segmentBytes) yield* this.beginSegment
        yield* this.last.append(this.fs, chunks)
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
          const chunks = yield* this.unlessEvicted(segment, segment.read(this.fs, selection, from, to, maxRead))
          // Nothing beyond what is missing: there must be no gap.
          if (Option.isNone(chunks)) return []
          if (chunks.value.length > 0) return chunks.value
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
        this.segments = this.isSegmented ? this.segments.slice(1) : [this.newSegment(first.end)]
        this.gone.stdout = Math.max(this.gone.stdout, first.endOf.stdout)
        this.gone.stderr = Math.max(this.gone.stderr, first.endOf.stderr)
        return first.remove(this.fs)
      })
    )
  }

  get remove(): Effect.Effect<void, OutputStoreError> {
    return this.change(
      "remove",
      Effect.zipRight(
        Effect.suspend(() => this.last.rest),
        this.fs.remove(this.directory, { recursive: true, force: true })
      )
    )
  }

  private get first(): Segment {
    return this.segments[0] as Segment
  }

  private get last(): Segment {
    return this.segments[this.segments.length - 1] as Segment
  }

  private get beginSegment(): Effect.Effect<void, PlatformError.PlatformError> {
    return Effect.gen(this, function*() {
      yield* this.last.seal(this.fs, ++this.sealed)
      this.segments = [...this.segments, this.newSegment(this.last.end)]
    })
  }

  private newSegment(base: number): Segment {
    return new Segment(this.directory, base, this.nextAge())
  }

  private tailOf(source: OutputSource, bytes: number, to: number): Effect.Effect<number, PlatformError.PlatformError> {
    return Effect.gen(this, function*() {
      let missing = bytes
      for (const segment of this.segments.filter((segment) => segment.base < to).reverse()) {
        const count = yield* this.unlessEvicted(segment, segment.countBefore(this.fs, source, to))
        if (Option.isNone(count)) break
        if (count.value >= missing) {
          const offset = segment.offsetOf(this.fs, source, count.value - missing)
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
