/**
 * Keeps the output of jobs in files, and their total size within its bounds.
 */
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import type { OutputStoreError } from "../../JobError.ts"
import type { JobId } from "../../JobId.ts"
import type { OutputChunk } from "../../Output.ts"
import type { StoredOutput } from "../../OutputStore.ts"
import { recordBytes } from "./runs.ts"
import { StoredJob, wrap } from "./storedJob.ts"

export interface Settings {
  readonly directory: string
  readonly maxBytes: number
  readonly segmentBytes: number
  readonly onFull: "evict" | "stop"
}

/** How many reads there are at once: each takes as much memory as it reads. */
const maxReads = 16

export class FileSystemStore {
  private readonly fs: FileSystem.FileSystem
  private readonly settings: Settings
  private readonly jobs = new Set<StoredJob>()
  private readonly reads = Effect.unsafeMakeSemaphore(maxReads)
  private readonly evictions = Effect.unsafeMakeSemaphore(1)
  /** How many segments there have been: the age of the next one. */
  private ages = 0

  constructor(fs: FileSystem.FileSystem, settings: Settings) {
    this.fs = fs
    this.settings = settings
  }

  /** Makes room for a job of which so many bytes are kept, and everything from `pinned` on. */
  open(id: JobId, maxBytes: number, pinned: () => number): Effect.Effect<StoredOutput, OutputStoreError> {
    return Effect.gen(this, function*() {
      const { directory, onFull } = this.settings
      const path = `${directory}/${id}`
      yield* wrap("open", this.fs.makeDirectory(path, { recursive: true, mode: 0o700 }))
      const segmentBytes = Math.min(
        this.settings.segmentBytes,
        Math.ceil(Math.min(maxBytes, this.settings.maxBytes) / 4)
      )
      const job = new StoredJob(this.fs, path, segmentBytes, () => this.ages++, pinned)
      this.jobs.add(job)
      const hasRoom = () => onFull === "evict" || job.size < maxBytes && this.size < this.settings.maxBytes
      const makeRoom = onFull === "evict" ? this.makeRoom(job, maxBytes) : Effect.void
      const read = this.reads.withPermits(1)
      return {
        append: Effect.fnUntraced(function*(chunks) {
          for (const some of inParts(chunks, segmentBytes)) {
            yield* job.append(some)
            yield* makeRoom
          }
          return hasRoom()
        }),
        rest: job.rest,
        read: (selection, from, to) => read(job.read(selection, from, to)),
        start: (selection) => job.start(selection),
        tail: (selection, bytes, to) => read(job.tail(selection, bytes, to)),
        remove: Effect.suspend(() => {
          this.jobs.delete(job)
          return job.remove
        })
      }
    })
  }

  private get size(): number {
    let size = 0
    for (const job of this.jobs) size += job.size
    return size
  }

  /** Evicts the oldest segments of a job that has grown, then the oldest of all; but never the one that has grown. */
  private makeRoom(grown: StoredJob, maxBytes: number): Effect.Effect<void> {
    const next = () => {
      if (grown.size > maxBytes && grown.isSegmented && !grown.isPinned) return grown
      return this.size > this.settings.maxBytes ? this.oldest(grown) : undefined
    }
    // What cannot be removed is one job's trouble, and must not become that of the others.
    const evict = Effect.gen(function*() {
      for (let job = next(); job !== undefined; job = next()) yield* logged(job.evict)
    })
    return Effect.suspend(() => next() === undefined ? Effect.void : this.evictions.withPermits(1)(evict))
  }

  private oldest(grown: StoredJob): StoredJob | undefined {
    let oldest: StoredJob | undefined
    for (const job of this.jobs) {
      const isEvictable = !job.isPinned && (job === grown ? job.isSegmented : job.size > 0)
      if (isEvictable && job.age < (oldest?.age ?? Infinity)) oldest = job
    }
    return oldest
  }
}

const logged = Effect.catchAll((error: OutputStoreError) => Effect.logWarning("Output could not be removed", error))

/** Parts of which each is a chunk, or no larger than so many bytes on disk: room is made after each of them. */
const inParts = (chunks: ReadonlyArray<OutputChunk>, maxBytes: number): ReadonlyArray<ReadonlyArray<OutputChunk>> => {
  const parts: Array<Array<OutputChunk>> = []
  let size = Infinity
  for (const chunk of chunks) {
    size += chunk.bytes.length + recordBytes
    if (size <= maxBytes) parts.at(-1)?.push(chunk)
    else {
      parts.push([chunk])
      size = chunk.bytes.length + recordBytes
    }
  }
  return parts
}
