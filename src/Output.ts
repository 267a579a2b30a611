/**
 * The output of jobs: its chunks, and how to subscribe to it.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * @since 0.1.0
 * @category models
 */
export const OutputSource = Schema.Literal("stdout", "stderr")

/**
 * @since 0.1.0
 * @category models
 */
export type OutputSource = typeof OutputSource.Type

/**
 * Some bytes of one source. `offset` is the place of the first of them in the job's output as it arrived, both sources
 * together: a reader that has had this chunk resumes with `from: offset + bytes.length`. The bytes are shared with the
 * log and with other readers: do not write to them.
 *
 * @since 0.1.0
 * @category models
 */
export const OutputChunk = Schema.Struct({
  source: OutputSource,
  offset: Schema.Int.pipe(Schema.nonNegative()),
  bytes: Schema.Uint8ArrayFromBase64
})

/**
 * @since 0.1.0
 * @category models
 */
export interface OutputChunk extends Schema.Schema.Type<typeof OutputChunk> {}

/**
 * How to subscribe to the output of a job.
 *
 * - `source` (default `"all"`): which of the two to read.
 * - `from` (default `"start"`): the first byte of the job, its `"end"` (only what comes from now on), a byte's offset, or
 *   the last `tail` bytes of the chosen source (or what is kept of them).
 * - `follow` (default `true`): go on until the job ends; `false`: end with what is there now.
 * - `whenBehind` (default `"fail"`): what happens to a reader whose next bytes were evicted: it fails with
 *   `OutputEvicted`, it goes on with what is kept (`"skip"`, where the offsets show the gap), or the job waits for it
 *   (`"block"`).
 *
 * @since 0.1.0
 * @category models
 */
export interface Options extends SourceOptions {
  readonly source?: "all" | OutputSource | undefined
}

/**
 * The options of a subscription to one source.
 *
 * @since 0.1.0
 * @category models
 */
export interface SourceOptions {
  readonly from?: "start" | "end" | number | { readonly tail: number } | undefined
  readonly follow?: boolean | undefined
  readonly whenBehind?: "fail" | "skip" | "block" | undefined
}
