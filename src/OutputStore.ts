/**
 * Where the output of jobs is kept: in memory, or elsewhere with a window in memory.
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
   * Keeps chunks that follow those of the last call; one call at a time. `false`: the store is full and keeps no more
   * of this job, which is to be stopped.
   */
  readonly append: (chunks: ReadonlyArray<OutputChunk>) => Effect.Effect<boolean, OutputStoreError>
  /** Nothing more will be appended, as far as is known: lets go of what was held for it, as open files. */
  readonly rest: Effect.Effect<void, OutputStoreError>
  /**
   * Some chunks of one source, or of both, in order and without a gap, the first beginning at `from` or, if `from` is
   * within another source's bytes, after it; nothing from `to` on. As many as are sensible to read at once, and none
   * only if there is nothing of that source up to `to`, or if what there was has been evicted meanwhile.
   */
  readonly read: (
    source: OutputSelection,
    from: number,
    to: number
  ) => Effect.Effect<ReadonlyArray<OutputChunk>, OutputStoreError>
  /** Up to here, bytes of one source, or of either, are not kept any more. */
  readonly start: (source: OutputSelection) => number
  /** Where the last `bytes` bytes before `to` of one source, or of both, begin, as far as they are kept. */
  readonly tail: (source: OutputSelection, bytes: number, to: number) => Effect.Effect<number, OutputStoreError>
  /** Forgets this output. */
  readonly remove: Effect.Effect<void, OutputStoreError>
}

/**
 * Keeps the output of jobs.
 *
 * @since 0.2.0
 * @category models
 */
export interface Service {
  /** How many bytes are kept in memory of one job, and over all jobs. Readers at the head are served from there. */
  readonly window: { readonly maxBytesPerJob: number; readonly maxBytes: number }
  /**
   * Makes room for the output of a job, when its first bytes come; `maxBytes` is what its spec says of it, and from
   * `pinned()` on nothing may be evicted, because a reader with `whenBehind: "block"` has not had it. `None`: what is in
   * memory is all that is kept.
   */
  readonly open: Option.Option<
    (
      id: JobId,
      maxBytes: Option.Option<number>,
      pinned: () => number
    ) => Effect.Effect<StoredOutput, OutputStoreError>
  >
  /**
   * How long the end of a job, which waits until all output is kept, does so while nothing gets done: then the store of
   * this job counts as failed. Default: 30 seconds.
   */
  readonly stallTimeout?: Duration.Duration | undefined
}

/**
 * The tag of the store of output.
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
  /** Has a folder for each job, named by its id. Made if it is not there. */
  readonly directory: string
  /** Bytes kept of one job whose spec does not say. Default: 1 GiB. */
  readonly maxBytesPerJob?: number | undefined
  /** Bytes kept of all jobs. Default: 10 GiB. */
  readonly maxBytes?: number | undefined
  /** How large files become before the next ones begin: what is evicted at once. Default: 64 MiB; a quarter of what is kept at most. */
  readonly segmentBytes?: number | undefined
  /** What happens when there is more: the oldest segment is dropped, or the job is stopped. Default: `"evict"`. */
  readonly onFull?: "evict" | "stop" | undefined
  /** Bytes kept in memory of one job, and of all jobs, for readers at the head. Default: 16 MiB, 128 MiB. */
  readonly window?: { readonly maxBytesPerJob?: number | undefined; readonly maxBytes?: number | undefined } | undefined
  /**
   * How long a job's end waits for a disk that gets nothing done: longer, and what is kept of this job has failed. What
   * is not a positive duration counts as absent. Default: 30 seconds.
   */
  readonly stallTimeout?: Duration.DurationInput | undefined
}

/**
 * Keeps output in plain files, and a window of it in memory. Each job has a folder with `stdout.log`, `stderr.log` and
 * `order.bin` (in which order their bytes came, and when); when these have grown large, they are renamed
 * (`stdout.000001.log`, …) and new ones begin, so that `tail -F stdout.log` follows a job. Folders have mode 0700, files
 * 0600. What a job writes is in the files within 5 ms after a silence, and every 500 ms while it goes on writing little;
 * when `wait` has answered, everything is.
 *
 * `order.bin` begins with the version of its format, 1, in two bytes, and a time in six, in milliseconds since 1970. Eight
 * bytes follow for each run of bytes of one source: its length in four, with the highest bit set for stderr, and when its
 * first byte came in four, in milliseconds after (or, if negative, before) that time. All numbers are little-endian. A run
 * goes on for less than 10 ms, so that the time of each byte is known that exactly: a job that writes a little all the
 * time has a hundred records a second.
 *
 * At most 128 files are open to be written, and 16 to be read, however many jobs write. Those that are not used for a
 * second or two are closed. A process that is out of descriptors waits for some as for a slow disk.
 *
 * The directory must belong to this user or to root, and nobody else may write it, unless it has the sticky bit: who can
 * could have other files renamed and removed. Otherwise each job's store fails with an `OutputStoreError` that names the
 * directory, as it does when a job's folder is swapped for something else. Who may write the folders above is trusted.
 *
 * A folder leaves with its job: by `remove` or by retention. What is there when the coordinator closes stays.
 *
 * A disk that is full, or any other failure, ends neither the job nor the coordinator: readers of what was lost fail
 * with `OutputStoreError`, and `JobInfo.output.storeError` says so.
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
