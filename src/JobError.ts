/**
 * Every way in which a request can fail. Each error is a `Schema.TaggedError`: it can be caught by its tag, and sent to
 * another host.
 *
 * @since 0.1.0
 */
import * as Inspectable from "effect/Inspectable"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { JobId } from "./JobId.ts"
import { Ended, format, StopReason } from "./JobStatus.ts"

const Count = Schema.Int.pipe(Schema.nonNegative())

const toText = (u: unknown): string => {
  try {
    return u instanceof Error ? String(u) : Inspectable.toStringUnknown(u, 0)
  } catch {
    return "something that cannot be shown"
  }
}

/** An `Error` keeps its name and message in JSON, anything else becomes text. Schema.Defect throws for a bigint. */
const Cause = Schema.transform(
  Schema.Union(Schema.String, Schema.Struct({ name: Schema.String, message: Schema.String })),
  Schema.Unknown.annotations({
    arbitrary: () => (fc) => fc.oneof(fc.string(), fc.string().map((message) => new Error(message)))
  }),
  {
    strict: true,
    decode: (cause) => typeof cause === "string" ? cause : toError(cause),
    encode: (cause) =>
      cause instanceof Error ? { name: toText(cause.name), message: toText(cause.message) } : toText(cause)
  }
)

const toError = ({ message, name }: { readonly name: string; readonly message: string }): Error => {
  const error = new Error(message)
  if (name !== error.name) error.name = name
  // Where it was decoded says nothing.
  error.stack = ""
  return error
}

/**
 * No job has this id: it was never started, or it has been removed.
 *
 * @since 0.1.0
 * @category errors
 */
export class JobNotFound extends Schema.TaggedError<JobNotFound>("joblib/JobNotFound")("JobNotFound", {
  /** The id that was asked for. */
  id: JobId
}) {
  override get message(): string {
    return `No job ${this.id}: it was never started, or it has been removed`
  }
}

/**
 * The job has ended, so it cannot be stopped or written to.
 *
 * @since 0.1.0
 * @category errors
 */
export class JobAlreadyEnded extends Schema.TaggedError<JobAlreadyEnded>("joblib/JobAlreadyEnded")("JobAlreadyEnded", {
  /** The job that has ended. */
  id: JobId
}) {
  override get message(): string {
    return `Job ${this.id} has ended already`
  }
}

/**
 * The job has not ended, so it cannot be removed.
 *
 * @since 0.1.0
 * @category errors
 */
export class JobStillRunning extends Schema.TaggedError<JobStillRunning>("joblib/JobStillRunning")("JobStillRunning", {
  /** The job that has not ended. */
  id: JobId
}) {
  override get message(): string {
    return `Job ${this.id} has not ended yet: stop it, or wait for it, before removing it`
  }
}

/**
 * Nothing can be written to the job's standard input: its spec did not ask for a pipe (`stdin: "pipe"`), the input has
 * been closed, or no process reads it any more.
 *
 * @since 0.1.0
 * @category errors
 */
export class InputClosed extends Schema.TaggedError<InputClosed>("joblib/InputClosed")("InputClosed", {
  /** The job whose input is closed. */
  id: JobId
}) {
  override get message(): string {
    return `The standard input of job ${this.id} is closed (a job has one only if its spec says stdin: "pipe")`
  }
}

/**
 * Why the operating system did not start a program.
 *
 * @since 0.1.0
 * @category errors
 */
export const JobStartReason = Schema.Literal(
  "NotFound",
  "PermissionDenied",
  "InvalidDirectory",
  "ArgumentListTooLong",
  "ResourceExhausted",
  "Unknown"
)

/**
 * Why the operating system did not start a program.
 *
 * @since 0.1.0
 * @category errors
 */
export type JobStartReason = typeof JobStartReason.Type

const startAdvice: Record<JobStartReason, string> = {
  NotFound: "there is no such program in the PATH, or no such file",
  PermissionDenied: "it may not be executed by this user, or it is a directory",
  InvalidDirectory: "its working directory is missing, is not a directory, or may not be entered",
  ArgumentListTooLong: "its arguments and environment are longer than the operating system takes",
  ResourceExhausted: "the operating system is out of processes, descriptors or memory",
  Unknown: "the operating system refused"
}

const adviceOf = ({ command, path, reason }: JobStartError): string => {
  if (path !== undefined && reason === "InvalidDirectory") {
    return `its working directory ${JSON.stringify(path)} is missing, is not a directory, or may not be entered`
  }
  if (path !== undefined && reason === "NotFound") return `it takes ${JSON.stringify(path)} to run, which is missing`
  return reason === "NotFound" && /\s/.test(command)
    ? `${startAdvice.NotFound}; arguments belong in args, and a line for a shell takes shell: true`
    : startAdvice[reason]
}

/**
 * The operating system did not start the program.
 *
 * - `command`: the program, or the shell if a shell was to run a line. If `command` seems to hold arguments as well,
 *   only its first word is shown.
 * - `path`: the file that the reason is about, if that is not the program itself. With `InvalidDirectory` it is the
 *   working directory. With `NotFound` it is what an existing program needs to run, such as the interpreter of a
 *   script.
 * - `cause`: an `Error` with the `code` and the `syscall` of the operating system, if there are any.
 *
 * None of them holds arguments, environment or a shell line, because they may be secret.
 *
 * @since 0.1.0
 * @category errors
 */
export class JobStartError extends Schema.TaggedError<JobStartError>("joblib/JobStartError")("JobStartError", {
  /** Why it did not start. */
  reason: JobStartReason,
  /** The program, or the shell that was to run it. */
  command: Schema.String,
  /** The directory, the shell or the interpreter that the reason is about, if there is one. */
  path: Schema.optionalWith(Schema.String, { exact: true }),
  /** What the platform said, without arguments and environment: an `Error`, or anything else. */
  cause: Cause
}) {
  override get message(): string {
    return `Cannot start ${JSON.stringify(this.command)}: ${adviceOf(this)} (${this.reason})`
  }
}

/**
 * The description of the job is wrong; nothing was started.
 *
 * @since 0.1.0
 * @category errors
 */
export class InvalidJobSpec extends Schema.TaggedError<InvalidJobSpec>("joblib/InvalidJobSpec")("InvalidJobSpec", {
  /** The path of the first field that is wrong, such as `args.0` or `stop.signal`; `spec` for the spec itself. */
  field: Schema.String,
  /** What is wrong with it, for people. */
  reason: Schema.String
}) {
  override get message(): string {
    return `Invalid job spec: ${this.field}: ${this.reason}`
  }
}

/**
 * As many jobs are running as `JobConfig.maxRunning` allows. A caller that would rather wait retries with a `Schedule`.
 *
 * @since 0.1.0
 * @category errors
 */
export class JobLimitReached extends Schema.TaggedError<JobLimitReached>("joblib/JobLimitReached")("JobLimitReached", {
  /** How many jobs may run at once. */
  limit: Count
}) {
  override get message(): string {
    return `${this.limit} jobs are running, which is the limit (maxRunning)`
  }
}

/**
 * There are as many readers of output as `JobConfig.maxSubscribersPerJob` or `maxSubscribers` allows.
 *
 * @since 0.1.0
 * @category errors
 */
export class SubscriberLimitReached
  extends Schema.TaggedError<SubscriberLimitReached>("joblib/SubscriberLimitReached")("SubscriberLimitReached", {
    /** How many readers there may be. */
    limit: Count,
    /** Whether the limit is that of one job (`maxSubscribersPerJob`) or of all jobs together (`maxSubscribers`). */
    scope: Schema.Literal("job", "total")
  })
{
  override get message(): string {
    return `${this.limit} subscribers read output ${this.scope === "job" ? "of this job" : "in total"}, ` +
      `which is the limit (${this.scope === "job" ? "maxSubscribersPerJob" : "maxSubscribers"})`
  }
}

/**
 * The log no longer keeps the bytes from `from` up to, but not including, `to`. A reader that would rather go on at
 * `to` asks for `whenBehind: "skip"`. A reader that would rather make the job wait asks for `"block"`.
 *
 * @since 0.1.0
 * @category errors
 */
export class OutputEvicted extends Schema.TaggedError<OutputEvicted>("joblib/OutputEvicted")("OutputEvicted", {
  /** The job whose output was read. */
  id: JobId,
  /** The offset of the first byte that is missing. */
  from: Count,
  /** The offset of the first byte after the gap. */
  to: Count
}) {
  override get message(): string {
    return `The output of job ${this.id} from byte ${this.from} to byte ${this.to} has been evicted`
  }
}

/**
 * The store of output failed. The job itself goes on.
 *
 * @since 0.1.0
 * @category errors
 */
export class OutputStoreError extends Schema.TaggedError<OutputStoreError>("joblib/OutputStoreError")(
  "OutputStoreError",
  {
    /** What the store was doing. */
    operation: Schema.Literal("open", "write", "read", "remove"),
    /** What the store said: an `Error`, or anything else. */
    cause: Cause
  }
) {
  override get message(): string {
    return `The store of output failed (${this.operation}): ${toText(this.cause)}`
  }
}

/**
 * There is more output than the caller allowed.
 *
 * @since 0.1.0
 * @category errors
 */
export class OutputTooLarge extends Schema.TaggedError<OutputTooLarge>("joblib/OutputTooLarge")("OutputTooLarge", {
  /** How many bytes the caller allowed. */
  maxBytes: Count
}) {
  override get message(): string {
    return `There are more than ${this.maxBytes} bytes of output`
  }
}

/**
 * This reader of events was too slow, and missed some. Reading `events` again begins with the jobs as they are now.
 *
 * @since 0.1.0
 * @category errors
 */
export class EventsMissed extends Schema.TaggedError<EventsMissed>("joblib/EventsMissed")("EventsMissed", {
  /** How many events this reader missed. */
  missed: Count
}) {
  override get message(): string {
    return `${this.missed} events were missed: subscribe again for the jobs as they are now`
  }
}

/**
 * The coordinator's layer has been closed.
 *
 * @since 0.1.0
 * @category errors
 */
export class CoordinatorStopped
  extends Schema.TaggedError<CoordinatorStopped>("joblib/CoordinatorStopped")("CoordinatorStopped", {})
{
  override get message(): string {
    return "The job coordinator has been stopped"
  }
}

/**
 * Why there can be no cgroups for jobs.
 *
 * @since 0.1.0
 * @category errors
 */
export const CgroupErrorReason = Schema.Literal(
  "NotFound",
  "Unsupported",
  "NotDelegated",
  "ControllerUnavailable",
  "InvalidLimit"
)

/**
 * Why there can be no cgroups for jobs.
 *
 * @since 0.1.0
 * @category errors
 */
export type CgroupErrorReason = typeof CgroupErrorReason.Type

const cgroupAdvice: Record<CgroupErrorReason, string> = {
  NotFound: "it is not a cgroup of version 2",
  Unsupported: "the kernel is too old to kill a cgroup; Linux 5.14 can",
  NotDelegated: "this user may not make cgroups there and move processes into them, or processes live in it",
  ControllerUnavailable: "a controller that a limit takes is not there",
  InvalidLimit: "the kernel refuses a limit"
}

/**
 * There can be no cgroups for jobs: the layer of `CgroupLimits` cannot be built.
 *
 * @since 0.1.0
 * @category errors
 */
export class CgroupError extends Schema.TaggedError<CgroupError>("joblib/CgroupError")("CgroupError", {
  /** Why it cannot be used. */
  reason: CgroupErrorReason,
  /** The cgroup, as a path in the file system. */
  directory: Schema.String,
  /** What the kernel said, or the controller or limit that the reason is about. */
  detail: Schema.String
}) {
  override get message(): string {
    const advice = cgroupAdvice[this.reason]
    return `No cgroups in ${JSON.stringify(this.directory)}: ${advice} (${this.reason}: ${this.detail})`
  }
}

/**
 * The job did not exit with code 0.
 *
 * - `status`: how it ended.
 * - `stopReason`: what began to stop it; `None` for a job that ended by itself.
 * - `stderr`: the end of its standard error, as text; from `JobCoordinator.run` at most the last 4 KiB. It may hold
 *   secrets that the program printed. It is no part of `message`.
 *
 * @since 0.2.0
 * @category errors
 */
export class JobFailed extends Schema.TaggedError<JobFailed>("joblib/JobFailed")("JobFailed", {
  /** The job, which stays in the table for its retention. */
  id: JobId,
  status: Ended,
  stopReason: Schema.Option(StopReason),
  stderr: Schema.String
}) {
  override get message(): string {
    const why = Option.match(this.stopReason, { onNone: () => "", onSome: (reason) => ` (${stopAdvice[reason]})` })
    return `Job ${this.id} failed: ${format(this.status)}${why}`
  }
}

const stopAdvice: Record<StopReason, string> = {
  caller: "it was stopped by a caller",
  timeout: "its timeout was over",
  limit: "it reached one of its limits",
  shutdown: "its coordinator was closed"
}

/**
 * Every way in which a job can fail to start.
 *
 * @since 0.2.0
 * @category errors
 */
export const StartError = Schema.Union(JobStartError, InvalidJobSpec, JobLimitReached, CoordinatorStopped)

/**
 * Every way in which a job can fail to start.
 *
 * @since 0.2.0
 * @category errors
 */
export type StartError = typeof StartError.Type

/**
 * Every error of this module, so that any of them can be sent to another host.
 *
 * @since 0.2.0
 * @category errors
 */
export const JobError = Schema.Union(
  JobNotFound,
  JobAlreadyEnded,
  JobStillRunning,
  InputClosed,
  JobStartError,
  InvalidJobSpec,
  JobLimitReached,
  SubscriberLimitReached,
  OutputEvicted,
  OutputStoreError,
  OutputTooLarge,
  EventsMissed,
  CoordinatorStopped,
  CgroupError,
  JobFailed
)

/**
 * Every error of this module.
 *
 * @since 0.2.0
 * @category errors
 */
export type JobError = typeof JobError.Type
