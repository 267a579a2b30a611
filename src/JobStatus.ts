/**
 * What a job is doing: running, or ended by its own exit or by a signal.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * The name of a POSIX signal.
 *
 * @since 0.1.0
 * @category models
 */
export const Signal = Schema.Literal(
  "SIGABRT",
  "SIGALRM",
  "SIGBUS",
  "SIGCHLD",
  "SIGCONT",
  "SIGFPE",
  "SIGHUP",
  "SIGILL",
  "SIGINT",
  "SIGIO",
  "SIGIOT",
  "SIGKILL",
  "SIGPIPE",
  "SIGPOLL",
  "SIGPROF",
  "SIGPWR",
  "SIGQUIT",
  "SIGSEGV",
  "SIGSTKFLT",
  "SIGSTOP",
  "SIGSYS",
  "SIGTERM",
  "SIGTRAP",
  "SIGTSTP",
  "SIGTTIN",
  "SIGTTOU",
  "SIGURG",
  "SIGUSR1",
  "SIGUSR2",
  "SIGVTALRM",
  "SIGWINCH",
  "SIGXCPU",
  "SIGXFSZ"
)

/**
 * The name of a POSIX signal.
 *
 * @since 0.1.0
 * @category models
 */
export type Signal = typeof Signal.Type

/**
 * The signal that a process died of: `"UNKNOWN"` where the platform tells that it was one, but not which. That can be
 * seen, and not be sent.
 *
 * @since 0.2.0
 * @category models
 */
export const FatalSignal = Schema.Literal(...Signal.literals, "UNKNOWN")

/**
 * The signal that a process died of.
 *
 * @since 0.2.0
 * @category models
 */
export type FatalSignal = typeof FatalSignal.Type

/**
 * The job's process has not been reaped yet.
 *
 * @since 0.1.0
 * @category models
 */
export class Running extends Schema.TaggedClass<Running>("joblib/JobStatus/Running")("Running", {}) {}

/**
 * The job's process left by itself, with an exit code. On Node, code 0 is also what a death by a real-time signal
 * (SIGRTMIN to SIGRTMAX) shows as: Node tells the same of both.
 *
 * @since 0.1.0
 * @category models
 */
export class Exited extends Schema.TaggedClass<Exited>("joblib/JobStatus/Exited")("Exited", {
  /** The exit code, 0 to 255. */
  code: Schema.Int.pipe(Schema.nonNegative())
}) {}

/**
 * The job's process died of a signal.
 *
 * @since 0.1.0
 * @category models
 */
export class Killed extends Schema.TaggedClass<Killed>("joblib/JobStatus/Killed")("Killed", {
  /** The signal that the process died of. */
  signal: FatalSignal
}) {}

/**
 * How a job ended.
 *
 * @since 0.1.0
 * @category models
 */
export const Ended = Schema.Union(Exited, Killed)

/**
 * How a job ended.
 *
 * @since 0.1.0
 * @category models
 */
export type Ended = typeof Ended.Type

/**
 * What a job is doing.
 *
 * @since 0.1.0
 * @category models
 */
export const JobStatus = Schema.Union(Running, Exited, Killed)

/**
 * What a job is doing.
 *
 * @since 0.1.0
 * @category models
 */
export type JobStatus = typeof JobStatus.Type

/**
 * The one value of `Running`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const running: Running = new Running()

/**
 * Whether the job's process has been reaped.
 *
 * @since 0.1.0
 * @category combinators
 */
export const isEnded = (status: JobStatus): status is Ended => status._tag !== "Running"

/**
 * One answer for each status.
 *
 * @since 0.1.0
 * @category combinators
 */
export const match = <A, B, C>(status: JobStatus, cases: {
  readonly Running: (status: Running) => A
  readonly Exited: (status: Exited) => B
  readonly Killed: (status: Killed) => C
}): A | B | C => {
  switch (status._tag) {
    case "Running":
      return cases.Running(status)
    case "Exited":
      return cases.Exited(status)
    case "Killed":
      return cases.Killed(status)
  }
}

/**
 * Whether the job's process left by itself with code 0.
 *
 * @since 0.2.0
 * @category combinators
 */
export const isSuccess = (status: JobStatus): boolean => status._tag === "Exited" && status.code === 0

/**
 * The status as a person would say it: `running`, `exited with code 3`, `killed by SIGTERM`.
 *
 * @since 0.2.0
 * @category combinators
 */
export const format = (status: JobStatus): string =>
  match(status, {
    Running: () => "running",
    Exited: ({ code }) => `exited with code ${code}`,
    Killed: ({ signal }) => `killed by ${signal}`
  })

/**
 * Who or what began to stop a job first: a caller of `stop`, the spec's `timeout`, one of its `limits`, or the closing
 * of the coordinator.
 *
 * @since 0.2.0
 * @category models
 */
export const StopReason = Schema.Literal("caller", "timeout", "limit", "shutdown")

/**
 * Who or what began to stop a job first.
 *
 * @since 0.2.0
 * @category models
 */
export type StopReason = typeof StopReason.Type
