/**
 * What a job is doing: it runs, or it has ended by its own exit or by a signal.
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
 * The signal that a process died of. `"UNKNOWN"` means that the platform does not tell which signal it was; it cannot
 * be sent.
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
 * The job's leader has not been reaped yet.
 *
 * @since 0.1.0
 * @category models
 */
export class Running extends Schema.TaggedClass<Running>("joblib/JobStatus/Running")("Running", {}) {}

/**
 * The job's leader exited, with an exit code. Node reports a death by a real-time signal (SIGRTMIN to SIGRTMAX) as an
 * exit with code 0 as well.
 *
 * @since 0.1.0
 * @category models
 */
export class Exited extends Schema.TaggedClass<Exited>("joblib/JobStatus/Exited")("Exited", {
  /** The exit code, 0 to 255. */
  code: Schema.Int.pipe(Schema.nonNegative())
}) {}

/**
 * The job's leader died of a signal.
 *
 * @since 0.1.0
 * @category models
 */
export class Killed extends Schema.TaggedClass<Killed>("joblib/JobStatus/Killed")("Killed", {
  /** The signal that it died of. */
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
 * Whether the job's leader, its first process, has been reaped.
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
 * Whether the job's leader exited with code 0.
 *
 * @since 0.2.0
 * @category combinators
 */
export const isSuccess = (status: JobStatus): boolean => status._tag === "Exited" && status.code === 0

/**
 * The status in words: `running`, `exited with code 3`, `killed by SIGTERM`.
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
 * What began to stop a job: a caller of `stop`, the spec's `timeout`, one of its `limits` or a full store (`onFull:
 * "stop"`), or the closing of the coordinator (`"shutdown"`). If there were several, it is the first.
 *
 * @since 0.2.0
 * @category models
 */
export const StopReason = Schema.Literal("caller", "timeout", "limit", "shutdown")

/**
 * What began to stop a job.
 *
 * @since 0.2.0
 * @category models
 */
export type StopReason = typeof StopReason.Type
