/**
 * Keeps the output of jobs in files, and their total size within its bounds.
 */
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { OutputStoreError } from "../../JobError.ts"
import type { JobId } from "../../JobId.ts"
import type { OutputChunk, OutputSelection } from "../../Output.ts"
import { Directory } from "./folder.ts"
import { Ledger } from "./ledger.ts"
import { OpenFiles } from "./openFiles.ts"
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
  private readonly settings: Settings
  private readonly directory: Directory
  private readonly ledger = new Ledger<StoredJob>()
  private readonly reads = Effect.unsafeMakeSemaphore(maxReads)
  private readonly evictions = Effect.unsafeMakeSemaphore(1)

  private constructor(fs: FileSystem.FileSystem, openFiles: OpenFiles, settings: Settings) {
    this.settings = settings
    this.directory = new Directory(fs, openFiles, settings.directory)
  }

  /** Its files are closed at the end of the scope. */
  static make(fs: FileSystem.FileSystem, settings: Settings): Effect.Effect<FileSystemStore, never, Scope.Scope> {
    return Effect.map(OpenFiles.make(), (openFiles) => new FileSystemStore(fs, openFiles, settings))
  }

  /** Makes room for a job of which so many bytes are kept, and everything from `pinned` on. */
  open(id: JobId, maxBytes: number, pinned: () => number) {
    const { maxBytes: maxBytesOfAll, onFull } = this.settings
    const segmentBytes = Math.min(this.settings.segmentBytes, Math.ceil(Math.min(maxBytes, maxBytesOfAll) / 4))
    return Effect.map(wrap("open", this.directory.makeFolder(id)), (folder) => {
      const job = new StoredJob(folder, segmentBytes, this.ledger, pinned)
      const hasRoom = () => onFull === "evict" || job.size < maxBytes && this.ledger.size < maxBytesOfAll
      const makeRoom = onFull === "evict" ? this.makeRoom(job, maxBytes) : Effect.void
      const read = this.reads.withPermits(1)
      return {
        append: Effect.fnUntraced(function*(chunks: ReadonlyArray<OutputChunk>) {
          for (const some of inParts(chunks, segmentBytes)) {
            yield* job.append(some)
            yield* makeRoom
          }
          return hasRoom()
        }),
        rest: job.rest,
        read: (selection: OutputSelection, from: number, to: number) => read(job.read(selection, from, to)),
        start: (selection: OutputSelection) => job.start(selection),
        tail: (selection: OutputSelection, bytes: number, to: number) => read(job.tail(selection, bytes, to)),
        remove: job.remove
      }
    })
  }

  /** Evicts the oldest segments of a job that has grown, then the oldest of all; but never the one that has grown. */
  private makeRoom(grown: StoredJob, maxBytes: number): Effect.Effect<void> {
    const next = () => {
      if (grown.size > maxBytes && grown.isSegmented && !grown.isPinned) return grown
      if (this.ledger.size <= this.settings.maxBytes) return undefined
      return this.ledger.oldest((job) => !job.isPinned && (job !== grown || job.isSegmented))
    }
    // What cannot be removed is one job's trouble, and must not become that of the others.
    const evict = Effect.gen(function*() {
      for (let job = next(); job !== undefined; job = next()) yield* logged(job.evict)
    })
    return Effect.suspend(() => next() === undefined ? Effect.void : this.evictions.withPermits(1)(evict))
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
