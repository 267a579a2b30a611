/**
 * A job as others see it.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { OutputStoreError } from "./JobError.ts"
import { JobId } from "./JobId.ts"
import { JobSpec } from "./JobSpec.ts"
import * as Status from "./JobStatus.ts"

const Bytes = Schema.Int.pipe(Schema.nonNegative())

/**
 * Who or what began to stop the job first: a caller of `stop`, the spec's `timeout`, one of its `limits`, or the closing
 * of the coordinator.
 *
 * @since 0.1.0
 * @category models
 */
export const StopReason = Status.StopReason

/**
 * Who or what began to stop the job first.
 *
 * @since 0.1.0
 * @category models
 */
export type StopReason = Status.StopReason

/**
 * How much a job has written so far: bytes of each source, bytes that the log no longer keeps, whether a pipe was cut
 * because something that had left the job's process group still held it, and what the store said when it failed.
 *
 * @since 0.1.0
 * @category models
 */
export const OutputInfo = Schema.Struct({
  stdoutBytes: Bytes,
  stderrBytes: Bytes,
  evictedBytes: Bytes,
  cut: Schema.Boolean,
  storeError: Schema.Option(OutputStoreError)
})

/**
 * How much a job has written so far.
 *
 * @since 0.1.0
 * @category models
 */
export type OutputInfo = typeof OutputInfo.Type

/**
 * A job as others see it. `exitedAt` is when its first process was reaped, `endedAt` when nothing of its process group
 * was left and its output was complete. `stopReason` is empty for a job that left by itself.
 *
 * @since 0.1.0
 * @category models
 */
export class JobInfo extends Schema.Class<JobInfo>("joblib/JobInfo")({
  id: JobId,
  spec: JobSpec,
  status: Status.JobStatus,
  pid: Schema.Int,
  startedAt: Schema.DateTimeUtc,
  exitedAt: Schema.Option(Schema.DateTimeUtc),
  endedAt: Schema.Option(Schema.DateTimeUtc),
  stopReason: Schema.Option(StopReason),
  output: OutputInfo
}) {}
