/**
 * The files of one job: a segment that grows, and older ones that do not.
 */
import type * as PlatformError from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import { OutputStoreError } from "../JobError.ts"
import type { OutputChunk, OutputSource } from "../Output.ts"
import { Segment, type Selection } from "./segment.ts"

/** How many bytes are read at once. */
const maxRead = 1024 * 1024

/** How many readers use the files at once; who changes them keeps all readers out. */
const maxReaders = 64

export class StoredJob {
  private readonly fs: FileSystem.FileSystem
  private readonly directory: string
  private readonly segmentBytes: number
  private readonly nextAge: () => number
  private readonly lock = Effect.unsafeMakeSemaphore(maxReaders)
  private segments: Array<Segment>
  private sealed = 0
  /** Up to here, bytes of each source are evicted. */
  private readonly gone = { stdout: 0, stderr: 0 }

  constructor(fs: FileSystem.FileSystem, directory: string, segmentBytes: number, nextAge: () => number) {
    this.fs = fs
    this.directory = directory
    this.segmentBytes = segmentBytes
    this.nextAge = nextAge
    this.segments = [new Segment(directory, 0, nextAge())]
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

  start(selection: Selection): number {
    return selection === "all" ? this.first.base : this.gone[selection]
  }

  append(chunks: ReadonlyArray<OutputChunk>): Effect.Effect<void, OutputStoreError> {
    return this.change(
      "write",
      Effect.gen(this, function*() {
        yield* this.last.append(this.fs, chunks)
        if (this.last.size >= this.segmentBytes) yield* this.beginSegment
      })
    )
  }

  read(
    selection: Selection,
    from: number,
    to: number
  ): Effect.Effect<ReadonlyArray<OutputChunk>, OutputStoreError> {
    return this.use(Effect.gen(this, function*() {
      for (const segment of this.segments) {
        if (segment.end <= from) continue
        if (segment.base >= to) break
        const chunks = yield* segment.read(this.fs, selection, from, to, maxRead)
        if (chunks.length > 0) return chunks
      }
      return []
    }))
  }

  tail(selection: Selection, bytes: number, to: number): Effect.Effect<number, OutputStoreError> {
    return selection === "all"
      ? Effect.succeed(Math.max(this.start("all"), to - bytes))
      : this.use(this.tailOf(selection, bytes, to))
  }

  /** Removes the oldest segment; a job that has but one begins a new one. */
  get evict(): Effect.Effect<void, OutputStoreError> {
    return this.change(
      "write",
      Effect.gen(this, function*() {
        const { first } = this
        if (!this.isSegmented) this.segments.push(new Segment(this.directory, first.end, this.nextAge()))
        yield* first.remove(this.fs)
        this.segments.shift()
        this.gone.stdout = Math.max(this.gone.stdout, first.endOf.stdout)
        this.gone.stderr = Math.max(this.gone.stderr, first.endOf.stderr)
      })
    )
  }

  get remove(): Effect.Effect<void, OutputStoreError> {
    return this.change("remove", this.fs.remove(this.directory, { recursive: true, force: true }))
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
      this.segments.push(new Segment(this.directory, this.last.end, this.nextAge()))
    })
  }

  private tailOf(source: OutputSource, bytes: number, to: number): Effect.Effect<number, PlatformError.PlatformError> {
    return Effect.gen(this, function*() {
      let missing = bytes
      for (const segment of this.segments.filter((segment) => segment.base < to).reverse()) {
        const count = yield* segment.countBefore(this.fs, source, to)
        if (count >= missing) return yield* segment.offsetOf(this.fs, source, count - missing)
        missing -= count
      }
      return this.start(source)
    })
  }

  private change<A>(
    operation: OutputStoreError["operation"],
    effect: Effect.Effect<A, PlatformError.PlatformError>
  ): Effect.Effect<A, OutputStoreError> {
    return wrap(operation, Effect.uninterruptible(this.lock.withPermits(maxReaders)(effect)))
  }

  private use<A>(effect: Effect.Effect<A, PlatformError.PlatformError>): Effect.Effect<A, OutputStoreError> {
    return wrap("read", this.lock.withPermits(1)(effect))
  }
}

export const wrap = <A>(
  operation: OutputStoreError["operation"],
  effect: Effect.Effect<A, PlatformError.PlatformError>
): Effect.Effect<A, OutputStoreError> => Effect.mapError(effect, (cause) => new OutputStoreError({ operation, cause }))
