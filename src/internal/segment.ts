/**
 * A part of a job's output on disk: one plain file per source, and one that says in which order their bytes came.
 *
 * The order file holds a record of four bytes (little-endian) per run of bytes of one source: its length, with the
 * highest bit set for stderr. Every so many records a checkpoint in memory says how far the sources had come, so that a
 * reader finds its place without reading the whole file.
 */
import * as PlatformError from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { OutputChunk, OutputSource } from "../Output.ts"

export type Selection = "all" | OutputSource

const fileNames = ["stdout.log", "stderr.log", "order.bin"] as const

type FileName = typeof fileNames[number]

/** What each run of bytes costs besides its bytes. */
export const recordBytes = 4
const stderrBit = 0x8000_0000
const maxRun = 0x7fff_ffff
const recordsPerCheckpoint = 4096

/** Where the bytes after some number of records begin: in the log, and in either file. */
interface Checkpoint {
  readonly records: number
  readonly offset: number
  readonly stdout: number
  readonly stderr: number
}

/** Bytes of one source that came without any of the other between them. */
interface Run {
  readonly source: OutputSource
  /** In the log. */
  readonly offset: number
  /** In the file of its source. */
  readonly position: number
  readonly length: number
}

interface OpenFile {
  readonly file: FileSystem.File
  /** Its inode, by which it is known from another of the same name. */
  readonly number: number | undefined
}

/** What is to be written to one file, and where. */
interface Part {
  readonly name: FileName
  readonly at: number
  readonly bytes: ReadonlyArray<Uint8Array>
}

export class Segment {
  /** Offsets in the log of its first byte, and of the one after its last. */
  readonly base: number
  end: number
  /** When it began, among the segments of all jobs. */
  readonly age: number
  /** After the last byte of each source: up to here, readers of that source lose something when the segment goes. */
  readonly endOf: { stdout: number; stderr: number }
  private readonly directory: string
  private readonly checkpoints: Array<Checkpoint>
  private readonly written = { stdout: 0, stderr: 0 }
  private records = 0
  /** The files there are, and what they are called now. */
  private readonly names = new Map<FileName, string>()
  /** The files that are open, to be written. */
  private readonly files = new Map<FileName, OpenFile>()
  private scope: Scope.CloseableScope | undefined
  /** Files are opened and renamed one at a time: the name that one has lost is soon that of another. */
  private readonly naming = Effect.unsafeMakeSemaphore(1)

  constructor(directory: string, base: number, age: number) {
    this.directory = directory
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
    const parts: ReadonlyArray<Part> = [
      { name: "stdout.log", at: this.written.stdout, bytes: bytesOf(chunks, "stdout") },
      { name: "stderr.log", at: this.written.stderr, bytes: bytesOf(chunks, "stderr") },
      { name: "order.bin", at: this.records * recordBytes, bytes: [recordsOf(runs)] }
    ]
    const present = parts.filter(({ bytes }) => bytes.length > 0)
    // All at once, because each step is a trip to another thread. None counts before all are done.
    return Effect.forEach(present, (part) => this.prepare(fs, part), { concurrency: "unbounded" }).pipe(
      Effect.flatMap((writes) => Effect.all(writes, { concurrency: "unbounded", discard: true })),
      Effect.tap(() => Effect.sync(() => runs.forEach((run) => this.note(run)))),
      Effect.tapErrorCause(() => this.rest),
      // What is made must be known, to be removed.
      Effect.uninterruptible
    )
  }

  /** Closes its files, until the next `append`. */
  get rest(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { scope } = this
      this.scope = undefined
      this.files.clear()
      return scope === undefined ? Effect.void : Scope.close(scope, Exit.void)
    })
  }

  /** Its files get names of their own: it grows no more. */
  seal(fs: FileSystem.FileSystem, number: number): Effect.Effect<void, PlatformError.PlatformError> {
    const rename = (name: FileName) => {
      const sealed = name.replace(".", `.${String(number).padStart(6, "0")}.`)
      return Effect.tap(
        fs.rename(this.path(name), `${this.directory}/${sealed}`),
        () => Effect.sync(() => this.names.set(name, sealed))
      )
    }
    return Effect.zipRight(
      this.rest,
      this.naming.withPermits(1)(
        Effect.forEach(fileNames.filter((name) => this.names.has(name)), rename, { discard: true })
      )
    )
  }

  remove(fs: FileSystem.FileSystem): Effect.Effect<void, PlatformError.PlatformError> {
    return Effect.zipRight(
      this.rest,
      Effect.forEach(this.names.keys(), (name) => fs.remove(this.path(name), { force: true }), { discard: true })
    )
  }

  /** The first bytes of a selection between two offsets, at most `maxBytes`. */
  read(
    fs: FileSystem.FileSystem,
    selection: Selection,
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

  private path(name: FileName): string {
    return `${this.directory}/${this.names.get(name) ?? name}`
  }

  /** How to write on at the end of what was written. Nobody else's file is touched, and none is taken for what it was. */
  private prepare(
    fs: FileSystem.FileSystem,
    { at, bytes, name }: Part
  ): Effect.Effect<Effect.Effect<void, PlatformError.PlatformError>, PlatformError.PlatformError> {
    return Effect.gen(this, function*() {
      const path = this.path(name)
      const opened = this.files.get(name)
      const { file, number } = opened ?? (yield* this.open(fs, name))
      if (opened !== undefined || at > 0) {
        // By its name: a file that was deleted or replaced can still be written to, but not be read.
        const { ino, size } = yield* fs.stat(path)
        if (size < at || Option.getOrUndefined(ino) !== number) return yield* truncated(path)
      }
      return Effect.zipRight(
        file.seek(FileSystem.Size(at), "start"),
        joined(bytes, (all) => file.writeAll(all))
      )
    })
  }

  private open(
    fs: FileSystem.FileSystem,
    name: FileName
  ): Effect.Effect<OpenFile, PlatformError.PlatformError> {
    return Effect.gen(this, function*() {
      // Several files may be opened at once.
      const scope = this.scope ?? (yield* Scope.make())
      this.scope ??= scope
      const flag = this.names.has(name) ? "r+" : "wx"
      const file = yield* Scope.extend(fs.open(this.path(name), { flag, mode: 0o600 }), this.scope)
      this.names.set(name, name)
      const opened = { file, number: Option.getOrUndefined((yield* file.stat).ino) }
      this.files.set(name, opened)
      return opened
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
      this.readFile(fs, "order.bin", checkpoint.records * recordBytes, count * recordBytes),
      (bytes) => {
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
        const runs: Array<Run> = []
        const positions = { stdout: checkpoint.stdout, stderr: checkpoint.stderr }
        let offset = checkpoint.offset
        for (let i = 0; i < count; i++) {
          const record = view.getUint32(i * recordBytes, true)
          const source = record >= stderrBit ? "stderr" : "stdout"
          const length = record & maxRun
          runs.push({ source, offset, position: positions[source], length })
          positions[source] += length
          offset += length
        }
        return runs
      }
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
          : this.readFile(fs, `${source}.log`, start, last.position + last.length - start),
        (bytes) => ({ start, bytes })
      )
    }
    return Effect.map(
      Effect.all({ stdout: load("stdout"), stderr: load("stderr") }),
      (files) =>
        runs.map(({ length, offset, position, source }) => {
          const { bytes, start } = files[source]
          return { source, offset, bytes: bytes.subarray(position - start, position - start + length) }
        })
    )
  }

  private readFile(
    fs: FileSystem.FileSystem,
    name: FileName,
    position: number,
    length: number
  ): Effect.Effect<Uint8Array, PlatformError.PlatformError> {
    return Effect.scoped(Effect.gen(this, function*() {
      const file = yield* this.naming.withPermits(1)(Effect.suspend(() => fs.open(this.path(name), { flag: "r" })))
      yield* file.seek(FileSystem.Size(position), "start")
      const bytes = new Uint8Array(length)
      let filled = 0
      while (filled < length) {
        const count = Number(yield* file.read(bytes.subarray(filled)))
        if (count === 0) return yield* truncated(this.path(name))
        filled += count
      }
      return bytes
    }))
  }
}

const bytesOf = (chunks: ReadonlyArray<OutputChunk>, source: OutputSource): ReadonlyArray<Uint8Array> =>
  chunks.filter((chunk) => chunk.source === source).map((chunk) => chunk.bytes)

/** Uses parts as one, in memory that is used again: a new megabyte for each write costs more than to copy it. */
const joined = <A, E>(
  parts: ReadonlyArray<Uint8Array>,
  use: (bytes: Uint8Array) => Effect.Effect<A, E>
): Effect.Effect<A, E> => {
  if (parts.length === 1 && parts[0] !== undefined) return use(parts[0])
  const size = parts.reduce((size, part) => size + part.length, 0)
  return Effect.acquireUseRelease(
    Effect.sync(() => size > scratchBytes ? new Uint8Array(size) : scratches.pop() ?? new Uint8Array(scratchBytes)),
    (scratch) => {
      let position = 0
      for (const part of parts) {
        scratch.set(part, position)
        position += part.length
      }
      return use(scratch.subarray(0, size))
    },
    (scratch) =>
      Effect.sync(() => {
        if (scratch.length === scratchBytes && scratches.length < maxScratches) scratches.push(scratch)
      })
  )
}

const scratchBytes = 2 * 1024 * 1024
const maxScratches = 4
const scratches: Array<Uint8Array> = []

const mergeRuns = (chunks: ReadonlyArray<OutputChunk>): ReadonlyArray<Pick<Run, "source" | "length">> => {
  const runs: Array<{ readonly source: OutputSource; length: number }> = []
  for (const { bytes, source } of chunks) {
    const last = runs.at(-1)
    if (last?.source === source && last.length + bytes.length <= maxRun) last.length += bytes.length
    else runs.push({ source, length: bytes.length })
  }
  return runs
}

const recordsOf = (runs: ReadonlyArray<Pick<Run, "source" | "length">>): Uint8Array => {
  const bytes = new Uint8Array(runs.length * recordBytes)
  const view = new DataView(bytes.buffer)
  runs.forEach(({ length, source }, i) => {
    view.setUint32(i * recordBytes, source === "stderr" ? length + stderrBit : length, true)
  })
  return bytes
}

/** What the runs have of a selection between two offsets. */
const cutRuns = (runs: ReadonlyArray<Run>, selection: Selection, from: number, to: number): ReadonlyArray<Run> => {
  const cut: Array<Run> = []
  for (const { length, offset, position, source } of runs) {
    const start = Math.max(offset, from)
    const end = Math.min(offset + length, to)
    if (start < end && (selection === "all" || selection === source)) {
      cut.push({ source, offset: start, position: position + start - offset, length: end - start })
    }
  }
  return cut
}

/** The first runs, up to so many bytes. */
const takeRuns = (runs: ReadonlyArray<Run>, maxBytes: number): ReadonlyArray<Run> => {
  const taken: Array<Run> = []
  let room = maxBytes
  for (const run of runs) {
    if (room <= 0) break
    taken.push({ ...run, length: Math.min(run.length, room) })
    room -= run.length
  }
  return taken
}

const truncated = (path: string) =>
  new PlatformError.SystemError({
    reason: "UnexpectedEof",
    module: "FileSystem",
    method: "read",
    pathOrDescriptor: path,
    description: "the file is not what was written, or shorter"
  })
