/**
 * A part of a job's output on disk, and where in it what is.
 *
 * Every so many records of the order file a checkpoint in memory says how far the sources had come, so that a reader
 * finds its place without reading the whole file.
 */
import type * as PlatformError from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type { OutputChunk, OutputSelection, OutputSource } from "../../Output.ts"
import { cutRuns, mergeRuns, recordBytes, recordsOf, type Run, runsOf, takeRuns } from "./runs.ts"
import { type Part, SegmentFiles } from "./segmentFiles.ts"

const recordsPerCheckpoint = 4096

/** Where the bytes after some number of records begin: in the log, and in either file. */
interface Checkpoint {
  readonly records: number
  readonly offset: number
  readonly stdout: number
  readonly stderr: number
}

export class Segment {
  /** Offsets in the log of its first byte, and of the one after its last. */
  readonly base: number
  end: number
  /** When it began, among the segments of all jobs. */
  readonly age: number
  /** After the last byte of each source: up to here, readers of that source lose something when the segment goes. */
  readonly endOf: { stdout: number; stderr: number }
  private readonly files: SegmentFiles
  private readonly checkpoints: Array<Checkpoint>
  private readonly written = { stdout: 0, stderr: 0 }
  private records = 0
  /** When its first bytes were read: as much as is known of when the others were. */
  private at = DateTime.unsafeMake(0)

  constructor(directory: string, base: number, age: number) {
    this.files = new SegmentFiles(directory)
    this.age = age
    this.base = base
    this.end = base
    this.endOf = { stdout: 0, stderr: 0 }
    this.checkpoints = [{ records: 0, offset: base, stdout: 0, stderr: 0 }]
  }

  /** Bytes on disk. */
  get size(): number {
    return this.end - this.base + this.records * recordBytes
  }

  append(
    fs: FileSystem.FileSystem,
    chunks: ReadonlyArray<OutputChunk>
  ): Effect.Effect<void, PlatformError.PlatformError> {
    const runs = mergeRuns(chunks)
    if (this.records === 0) this.at = chunks[0]?.at ?? this.at
    const parts: ReadonlyArray<Part> = [
      { name: "stdout.log", at: this.written.stdout, bytes: bytesOf(chunks, "stdout") },
      { name: "stderr.log", at: this.written.stderr, bytes: bytesOf(chunks, "stderr") },
      { name: "order.bin", at: this.records * recordBytes, bytes: [recordsOf(runs)] }
    ]
    const writing = this.files.write(fs, parts.filter(({ bytes }) => bytes.length > 0))
    return Effect.map(writing, () => runs.forEach((run) => this.note(run)))
  }

  /** Closes its files, until the next `append`. */
  get rest(): Effect.Effect<void> {
    return this.files.rest
  }

  /** Its files get names of their own: it grows no more. */
  seal(fs: FileSystem.FileSystem, number: number): Effect.Effect<void, PlatformError.PlatformError> {
    return this.files.rename(fs, String(number).padStart(6, "0"))
  }

  remove(fs: FileSystem.FileSystem): Effect.Effect<void, PlatformError.PlatformError> {
    return this.files.remove(fs)
  }

  /** The first bytes of a selection between two offsets, at most `maxBytes`. */
  read(
    fs: FileSystem.FileSystem,
    selection: OutputSelection,
    from: number,
    to: number,
    maxBytes: number
  ): Effect.Effect<ReadonlyArray<OutputChunk>, PlatformError.PlatformError> {
    return Effect.gen(this, function*() {
      for (let at = this.checkpointBefore("offset", from); at < this.checkpoints.length; at++) {
        const checkpoint = this.checkpoints[at] as Checkpoint
        if (checkpoint.offset >= to) break
        if (selection !== "all" && this.isSilent(at, selection)) continue
        const runs = takeRuns(cutRuns(yield* this.runs(fs, at), selection, from, to), maxBytes)
        if (runs.length > 0) return yield* this.chunks(fs, runs)
      }
      return []
    })
  }

  /** How many bytes of a source come before an offset, within the segment. */
  countBefore(
    fs: FileSystem.FileSystem,
    source: OutputSource,
    to: number
  ): Effect.Effect<number, PlatformError.PlatformError> {
    if (to >= this.end) return Effect.succeed(this.written[source])
    const at = this.checkpointBefore("offset", to)
    const before = (this.checkpoints[at] as Checkpoint)[source]
    return Effect.map(
      this.runs(fs, at),
      (runs) => cutRuns(runs, source, 0, to).reduce((sum, run) => sum + run.length, before)
    )
  }

  /** The offset of the byte of a source that has so many before it, within the segment. */
  offsetOf(
    fs: FileSystem.FileSystem,
    source: OutputSource,
    count: number
  ): Effect.Effect<number, PlatformError.PlatformError> {
    return Effect.map(this.runs(fs, this.checkpointBefore(source, count)), (runs) => {
      const run = runs.find((run) => run.source === source && run.position + run.length > count)
      return run === undefined ? this.end : run.offset + count - run.position
    })
  }

  private note(run: { readonly source: OutputSource; readonly length: number }): void {
    this.written[run.source] += run.length
    this.end += run.length
    this.endOf[run.source] = this.end
    this.records++
    if (this.records % recordsPerCheckpoint === 0) {
      this.checkpoints.push({ records: this.records, offset: this.end, ...this.written })
    }
  }

  /** The last checkpoint at which an offset, or a count of a source's bytes, was not passed. */
  private checkpointBefore(key: "offset" | OutputSource, value: number): number {
    let low = 0
    let high = this.checkpoints.length - 1
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if ((this.checkpoints[middle] as Checkpoint)[key] <= value) low = middle
      else high = middle - 1
    }
    return low
  }

  /** Whether a source has no bytes between a checkpoint and the next. */
  private isSilent(at: number, source: OutputSource): boolean {
    const next = this.checkpoints[at + 1] ?? this.written
    return next[source] === (this.checkpoints[at] as Checkpoint)[source]
  }

  /** The runs between a checkpoint and the next. */
  private runs(fs: FileSystem.FileSystem, at: number): Effect.Effect<ReadonlyArray<Run>, PlatformError.PlatformError> {
    const checkpoint = this.checkpoints[at] as Checkpoint
    const count = Math.min(this.records - checkpoint.records, recordsPerCheckpoint)
    return Effect.map(
      this.files.read(fs, "order.bin", checkpoint.records * recordBytes, count * recordBytes),
      (records) => runsOf(records, checkpoint)
    )
  }

  /** What the runs stand for, with one read of each file. */
  private chunks(
    fs: FileSystem.FileSystem,
    runs: ReadonlyArray<Run>
  ): Effect.Effect<ReadonlyArray<OutputChunk>, PlatformError.PlatformError> {
    const load = (source: OutputSource) => {
      const own = runs.filter((run) => run.source === source)
      const start = own[0]?.position ?? 0
      const last = own.at(-1)
      return Effect.map(
        last === undefined
          ? Effect.succeed(new Uint8Array(0))
          : this.files.read(fs, `${source}.log`, start, last.position + last.length - start),
        (bytes) => ({ start, bytes })
      )
    }
    return Effect.map(
      Effect.all({ stdout: load("stdout"), stderr: load("stderr") }),
      (files) =>
        runs.map(({ length, offset, position, source }) => {
          const { bytes, start } = files[source]
          return { source, offset, bytes: bytes.subarray(position - start, position - start + length), at: this.at }
        })
    )
  }
}

const bytesOf = (chunks: ReadonlyArray<OutputChunk>, source: OutputSource): ReadonlyArray<Uint8Array> =>
  chunks.filter((chunk) => chunk.source === source).map((chunk) => chunk.bytes)
