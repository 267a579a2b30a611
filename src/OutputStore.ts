/**
 * Where the output of jobs is kept: in memory, or in a store with a window in memory.
 *
 * @since 0.1.0
 */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { FileSystemStore } from "./internal/store/fileSystemStore.ts"
import { JobConfig } from "./JobConfig.ts"
import type { OutputStoreError } from "./JobError.ts"
import type { JobId } from "./JobId.ts"
import type { OutputChunk, OutputSelection } from "./Output.ts"

/**
 * The output of one job, as a store keeps it.
 *
 * @since 0.1.0
 * @category models
 */
export interface StoredOutput {
  /**
   * Keeps chunks that follow those of the last call. There is one call at a time. `false`: the store is full and keeps
   * no more of this job, so the job is stopped.
   */
  readonly append: (chunks: ReadonlyArray<OutputChunk>) => Effect.Effect<boolean, OutputStoreError>
  /** Releases what is held for appending, such as open files. It is called when nothing more is expected. */
  readonly rest: Effect.Effect<void, OutputStoreError>
  /**
   * Some chunks of one source, or of both, in order and without a gap, and nothing from `to` on. The first begins at
   * `from`, or after it if the other source's bytes are there. The store decides how many to read at once. It gives
   * none only if there is nothing of that source up to `to`, or if that has been evicted meanwhile.
   */
  readonly read: (
    source: OutputSelection,
    from: number,
    to: number
  ) => Effect.Effect<ReadonlyArray<OutputChunk>, OutputStoreError>
  /** The offset before which bytes of one source, or of either, are no longer kept. */
  readonly start: (source: OutputSelection) => number
  /**
   * The offset at which the last `bytes` bytes before `to` of one source, or of both, begin, as far as they are kept.
   */
  readonly tail: (source: OutputSelection, bytes: number, to: number) => Effect.Effect<number, OutputStoreError>
  /** Removes this output. */
  readonly remove: Effect.Effect<void, OutputStoreError>
}

/**
 * Keeps the output of jobs.
 *
 * @since 0.2.0
 * @category models
 */
export interface Service {
  /** How many bytes are kept in memory of one job, and over all jobs. Readers that keep up are served from there. */
  readonly window: { readonly maxBytesPerJob: number; readonly maxBytes: number }
  /**
   * Makes room for the output of a job when its first bytes come. `maxBytes` is the `output.maxBytes` of its spec.
   * Nothing from the offset `pinned()` on may be evicted, because a reader with `whenBehind: "block"` has not had it.
   * `None`: output is kept in memory alone.
   */
  readonly open: Option.Option<
    (
      id: JobId,
      maxBytes: Option.Option<number>,
      pinned: () => number
    ) => Effect.Effect<StoredOutput, OutputStoreError>
  >
  /**
   * The end of a job waits until the store has all its output. If the store gets nothing done for this long, it counts
   * as failed for this job. Default: 30 seconds.
   */
  readonly stallTimeout?: Duration.Duration | undefined
}

/**
 * The tag of the store.
 *
 * @since 0.1.0
 * @category models
 */
export class OutputStore extends Context.Tag("joblib/OutputStore")<OutputStore, Service>() {}

/**
 * Keeps output in memory, as much of it as `JobConfig.output` says.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerMemory: Layer.Layer<OutputStore> = Layer.effect(
  OutputStore,
  Effect.map(JobConfig, ({ output }) => ({ window: output, open: Option.none() }))
)

/**
 * How to keep output in files.
 *
 * @since 0.1.0
 * @category models
 */
export interface FileSystemOptions {
  /** The directory that has a folder for each job, named by the job's id. It is made if it is not there. */
  readonly directory: string
  /** Bytes kept of one job, unless its spec has `output.maxBytes`. Default: 1 GiB. */
  readonly maxBytesPerJob?: number | undefined
  /** Bytes kept of all jobs of this store together. Default: 10 GiB. */
  readonly maxBytes?: number | undefined
  /**
   * The size at which files are renamed and new ones begin. So much is evicted at once. Default: 64 MiB, and at most a
   * quarter of what is kept.
   */
  readonly segmentBytes?: number | undefined
  /** What happens when there is more: the oldest files are evicted, or the job is stopped. Default: `"evict"`. */
  readonly onFull?: "evict" | "stop" | undefined
  /** Bytes kept in memory of one job, and over all jobs, for readers that keep up. Default: 16 MiB, 128 MiB. */
  readonly window?: { readonly maxBytesPerJob?: number | undefined; readonly maxBytes?: number | undefined } | undefined
  /**
   * How long a job's end waits for a disk that gets nothing done. After that, the store counts as failed for this job.
   * Anything but a positive duration counts as absent. Default: 30 seconds.
   */
  readonly stallTimeout?: Duration.DurationInput | undefined
}

/**
 * Keeps output in plain files, and a window of it in memory. Each job has a folder with `stdout.log`, `stderr.log` and
 * `order.bin`, which tells in which order their bytes came, and when. When these files have grown large, they are
 * renamed (`stdout.000001.log`, …) and new ones begin, so that `tail -F stdout.log` follows a job. Folders have mode
 * 0700, files 0600.
 *
 * What a job writes is in the files within about 5 ms after a silence, and every 500 ms while the job keeps writing
 * little. When `wait` has returned, everything is there, unless the store has failed.
 *
 * `order.bin` begins with the version of its format, 1, in two bytes, and a time in six, in milliseconds since 1970.
 * Eight bytes follow for each run of bytes of one source. Four are its length, with the highest bit set for stderr.
 * Four are the time when its first byte came, in milliseconds after that first time, or before it if negative. All
 * numbers are little-endian. A run spans less than 10 ms, so the time of each byte is known that exactly. A job that
 * writes a little all the time has a hundred records a second.
 *
 * At most 128 files are open for writing, and 16 for reading, however many jobs write. A file that is not used for a
 * second or two is closed. If the process is out of descriptors, the store waits, as it does for a slow disk.
 *
 * The directory must belong to this user or to root. No other user may write it, unless it has the sticky bit, because
 * such a user could make the store rename and remove other files. Otherwise the store fails for each job with an
 * `OutputStoreError` that names the directory. It fails in the same way if a job's folder is swapped for something
 * else. Users that can write the folders above are trusted.
 *
 * A folder is removed with its job, by `remove` or by retention. The folders of jobs that are in the table when the
 * coordinator closes stay. A later coordinator neither lists those jobs nor counts their bytes, and it leaves their
 * folders alone.
 *
 * A full disk, or any other failure, ends neither the job nor the coordinator. Readers of what was lost fail with
 * `OutputStoreError`, and `JobInfo.output.storeError` holds the error. Closing the layer warns of jobs whose output is
 * not all in the files.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFileSystem = (options: FileSystemOptions): Layer.Layer<OutputStore, never, FileSystem.FileSystem> =>
  Layer.scoped(
    OutputStore,
    Effect.gen(function*() {
      const store = yield* FileSystemStore.make(yield* FileSystem.FileSystem, {
        directory: options.directory,
        maxBytes: size(options.maxBytes, 10 * GiB),
        segmentBytes: size(options.segmentBytes, 64 * MiB),
        onFull: options.onFull ?? "evict"
      })
      const maxBytesPerJob = size(options.maxBytesPerJob, GiB)
      return {
        window: {
          maxBytesPerJob: size(options.window?.maxBytesPerJob, 16 * MiB),
          maxBytes: size(options.window?.maxBytes, 128 * MiB)
        },
        open: Option.some((id: JobId, maxBytes: Option.Option<number>, pinned: () => number) =>
          store.open(id, Option.getOrElse(maxBytes, () => maxBytesPerJob), pinned)
        ),
        stallTimeout: Option.getOrUndefined(
          Option.filter(Duration.decodeUnknown(options.stallTimeout), Duration.greaterThan(Duration.zero))
        )
      }
    })
  )

const MiB = 1024 * 1024

const GiB = 1024 * MiB

/** What is no number of bytes counts as absent: a disk must not fill up for a typing error. */
const size = (bytes: number | undefined, otherwise: number) => bytes !== undefined && bytes >= 0 ? bytes : otherwise
