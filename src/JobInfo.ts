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
 * How much a job has written so far, and what became of it.
 *
 * @since 0.1.0
 * @category models
 */
export const OutputInfo = Schema.Struct({
  /** Bytes read from standard output. */
  stdoutBytes: Bytes,
  /** Bytes read from standard error. */
  stderrBytes: Bytes,
  /** Bytes of both that the log no longer keeps. */
  evictedBytes: Bytes,
  /** Whether a pipe was cut because something that had left the job's process group still held it. */
  cut: Schema.Boolean,
  /** The first failure of the store, if it failed. */
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
 * A job as others see it.
 *
 * @since 0.1.0
 * @category models
 */
export class JobInfo extends Schema.Class<JobInfo>("joblib/JobInfo")({
  /** The job's identity. */
  id: JobId,
  /** What it was started from, with its defaults filled in. */
  spec: JobSpec,
  /** What its first process is doing. */
  status: Status.JobStatus,
  /** The number of its first process, which is also that of its process group. */
  pid: Schema.Int,
  /** When the operating system accepted it. */
  startedAt: Schema.DateTimeUtc,
  /** When its first process was reaped. */
  exitedAt: Schema.Option(Schema.DateTimeUtc),
  /** When nothing of its process group was left and its output was complete. */
  endedAt: Schema.Option(Schema.DateTimeUtc),
  /** Who or what began to stop it; `None` for a job that left by itself. */
  stopReason: Schema.Option(StopReason),
  /** How much it has written. */
  output: OutputInfo
}) {}
