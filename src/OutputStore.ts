/**
 * Where the output of jobs is kept: in memory, or elsewhere with a window in memory.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { JobConfig } from "./JobConfig.ts"
import type { OutputStoreError } from "./JobError.ts"
import type { JobId } from "./JobId.ts"
import type { OutputChunk, OutputSource } from "./Output.ts"

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
  /**
   * Some chunks of one source, or of both, in order and without a gap, the first beginning at `from` or, if `from` is
   * within another source's bytes, after it; nothing from `to` on. As many as are sensible to read at once, and none
   * only if there is nothing of that source up to `to`.
   */
  readonly read: (
    source: "all" | OutputSource,
    from: number,
    to: number
  ) => Effect.Effect<ReadonlyArray<OutputChunk>, OutputStoreError>
  /** Up to here, bytes of one source, or of either, are not kept any more. */
  readonly start: (source: "all" | OutputSource) => number
  /** Where the last `bytes` bytes before `to` of one source, or of both, begin, as far as they are kept. */
  readonly tail: (source: "all" | OutputSource, bytes: number, to: number) => Effect.Effect<number, OutputStoreError>
  /** Forgets this output. */
  readonly remove: Effect.Effect<void, OutputStoreError>
}

/**
 * Where output is kept.
 *
 * @since 0.1.0
 * @category models
 */
export class OutputStore extends Context.Tag("joblib/OutputStore")<OutputStore, {
  /** How many bytes are kept in memory of one job, and over all jobs. Readers at the head are served from there. */
  readonly window: { readonly maxBytesPerJob: number; readonly maxBytes: number }
  /**
   * Makes room for the output of a job, when its first bytes come; `maxBytes` is what its spec says of it. `None`: what
   * is in memory is all that is kept.
   */
  readonly open: Option.Option<
    (id: JobId, maxBytes: Option.Option<number>) => Effect.Effect<StoredOutput, OutputStoreError>
  >
}>() {}

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
