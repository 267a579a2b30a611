/**
 * What is known of a job.
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
 * What began to stop the job; see `JobStatus.StopReason`.
 *
 * @since 0.1.0
 * @category models
 */
export const StopReason = Status.StopReason

/**
 * What began to stop the job.
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
  /** Whether a pipe was cut because a process that had left the process group still held it. */
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
 * What is known of a job.
 *
 * @since 0.1.0
 * @category models
 */
export class JobInfo extends Schema.Class<JobInfo>("joblib/JobInfo")({
  /** The job's id. */
  id: JobId,
  /** The spec that it was started from, with its defaults filled in. */
  spec: JobSpec,
  /** What its leader, the first process, is doing. */
  status: Status.JobStatus,
  /** The process id of the leader, which is also the id of the process group. */
  pid: Schema.Int,
  /** When the operating system accepted the process. */
  startedAt: Schema.DateTimeUtc,
  /** When the leader was reaped. */
  exitedAt: Schema.Option(Schema.DateTimeUtc),
  /** When nothing of the process group was alive and the output was complete. */
  endedAt: Schema.Option(Schema.DateTimeUtc),
  /** What began to stop it; `None` for a job that ended by itself. */
  stopReason: Schema.Option(StopReason),
  /** How much it has written, and what became of it. */
  output: OutputInfo
}) {}
