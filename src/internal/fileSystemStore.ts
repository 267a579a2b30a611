/**
 * Keeps the output of jobs in files, and their total size within its bounds.
 */
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import type { OutputStoreError } from "../JobError.ts"
import type { JobId } from "../JobId.ts"
import type { StoredOutput } from "../OutputStore.ts"
import { StoredJob, wrap } from "./storedJob.ts"

export interface Settings {
  readonly directory: string
  readonly maxBytes: number
  readonly segmentBytes: number
  readonly onFull: "evict" | "stop"
}

export class FileSystemStore {
  private readonly fs: FileSystem.FileSystem
  private readonly settings: Settings
  private readonly jobs = new Set<StoredJob>()
  /** How many segments there have been: the age of the next one. */
  private ages = 0

  constructor(fs: FileSystem.FileSystem, settings: Settings) {
    this.fs = fs
    this.settings = settings
  }

  open(id: JobId, maxBytes: number): Effect.Effect<StoredOutput, OutputStoreError> {
    return Effect.gen(this, function*() {
      const { directory, onFull, segmentBytes } = this.settings
      const path = `${directory}/${id}`
      yield* wrap("open", this.fs.makeDirectory(path, { recursive: true, mode: 0o700 }))
      const job = new StoredJob(this.fs, path, Math.min(segmentBytes, Math.ceil(maxBytes / 4)), () => this.ages++)
      this.jobs.add(job)
      const hasRoom = () => job.size < maxBytes && this.size < this.settings.maxBytes
      return {
        append: (chunks) =>
          Effect.zipRight(
            job.append(chunks),
            onFull === "stop" ? Effect.sync(hasRoom) : Effect.as(this.makeRoom(job, maxBytes), true)
          ),
        read: (selection, from, to) => job.read(selection, from, to),
        start: (selection) => job.start(selection),
        tail: (selection, bytes, to) => job.tail(selection, bytes, to),
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
  private makeRoom(grown: StoredJob, maxBytes: number): Effect.Effect<void, OutputStoreError> {
    return Effect.gen(this, function*() {
      while (grown.size > maxBytes && grown.isSegmented) yield* grown.evict
      while (this.size > this.settings.maxBytes) {
        let oldest: StoredJob | undefined
        for (const job of this.jobs) {
          const isEvictable = job === grown ? job.isSegmented : job.size > 0
          if (isEvictable && job.age < (oldest?.age ?? Infinity)) oldest = job
        }
        if (oldest === undefined) return
        yield* oldest.evict
      }
    })
  }
}
