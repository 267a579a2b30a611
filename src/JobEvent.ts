/**
 * What happens to the jobs of a coordinator.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { JobId } from "./JobId.ts"
import { JobInfo } from "./JobInfo.ts"

/**
 * A job was started, now or before this stream of events began.
 *
 * @since 0.1.0
 * @category models
 */
export class JobStarted extends Schema.TaggedClass<JobStarted>("joblib/JobEvent/JobStarted")("JobStarted", {
  /** The job as it was at its start, or as it is when this stream begins. */
  info: JobInfo
}) {}

/**
 * A job ended: nothing of its process group is alive, and its output is complete.
 *
 * @since 0.1.0
 * @category models
 */
export class JobEnded extends Schema.TaggedClass<JobEnded>("joblib/JobEvent/JobEnded")("JobEnded", {
  /** The job at its end. */
  info: JobInfo
}) {}

/**
 * An ended job was removed, by `remove` or by retention.
 *
 * @since 0.1.0
 * @category models
 */
export class JobRemoved extends Schema.TaggedClass<JobRemoved>("joblib/JobEvent/JobRemoved")("JobRemoved", {
  /** The job that has been removed. */
  id: JobId
}) {}

/**
 * What happens to a job.
 *
 * @since 0.1.0
 * @category models
 */
export const JobEvent = Schema.Union(JobStarted, JobEnded, JobRemoved)

/**
 * What happens to a job.
 *
 * @since 0.1.0
 * @category models
 */
export type JobEvent = typeof JobEvent.Type
