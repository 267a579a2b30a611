/**
 * What a coordinator tells of itself: metrics, a span per job, and logs at debug level.
 *
 * Only the program's name is told of what a job runs: arguments, environment and shell lines may hold secrets.
 */
import type * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import { constVoid } from "effect/Function"
import * as LogLevel from "effect/LogLevel"
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as Option from "effect/Option"
import type * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import type * as Tracer from "effect/Tracer"
import type { JobId } from "../../JobId.ts"
import type { JobInfo } from "../../JobInfo.ts"
import type { JobSpec } from "../../JobSpec.ts"
import type { JobStatus } from "../../JobStatus.ts"
import { nameOf } from "../process/programName.ts"

export const running = Metric.gauge("joblib_jobs_running", { description: "Jobs that have not ended" })

const started = Metric.counter("joblib_jobs_started", { description: "Jobs started", incremental: true })

const ended = Metric.counter("joblib_jobs_ended", { description: "Jobs ended, by outcome", incremental: true })

const endedAs = {
  succeeded: Metric.tagged(ended, "outcome", "succeeded"),
  failed: Metric.tagged(ended, "outcome", "failed"),
  killed: Metric.tagged(ended, "outcome", "killed")
}

const startLatency = Metric.histogram(
  "joblib_start_latency_millis",
  MetricBoundaries.exponential({ start: 0.5, factor: 2, count: 14 }),
  "Time from a call of start to its answer"
)

const duration = Metric.histogram(
  "joblib_job_duration_millis",
  MetricBoundaries.exponential({ start: 1, factor: 4, count: 14 }),
  "Time from a job's start to its end"
)

export const outputBytes = Metric.counter("joblib_output_bytes", {
  description: "Bytes of output read from jobs",
  incremental: true
})

export const evictedBytes = Metric.counter("joblib_evicted_bytes", {
  description: "Bytes of output evicted from memory",
  incremental: true
})

export const subscribers = Metric.gauge("joblib_subscribers", { description: "Subscribers to output" })

export const mailboxDepth = Metric.gauge("joblib_mailbox_depth", {
  description: "Requests that wait in the coordinator's mailbox"
})

/** Adds to a counter, or sets a gauge, outside of a fiber. */
export const record = <Type, Out>(metric: Metric.Metric<Type, number, Out>, value: number): void =>
  metric.unsafeUpdate(value, [])

/** One coordinator's part of a gauge that all coordinators of a process share. */
export class Share {
  value = 0
  private readonly gauge: Metric.Metric.Gauge<number>

  constructor(gauge: Metric.Metric.Gauge<number>) {
    this.gauge = gauge
  }

  add(n: number): void {
    this.value += n
    this.gauge.unsafeModify(n, [])
  }

  set(value: number): void {
    this.add(value - this.value)
  }
}

/** When the scope closes, nothing of this part is left in the gauge. */
export const share = (gauge: Metric.Metric.Gauge<number>): Effect.Effect<Share, never, Scope.Scope> =>
  Effect.acquireRelease(Effect.sync(() => new Share(gauge)), (share) => Effect.sync(() => share.set(0)))

const programOf = (spec: JobSpec): string => spec.shell === false ? nameOf(spec) : "shell"

/** A span, unless the tracer fails: what is told of a job must not change what becomes of it. */
const makeSpan = (name: string, options: Tracer.SpanOptions): Effect.Effect<Tracer.Span | undefined> =>
  Effect.catchAllCause(
    Effect.makeSpan(name, { ...options, captureStackTrace: false }),
    () => Effect.succeed(undefined)
  )

/** The span of a call of `start`. */
export const startSpan = (spec: JobSpec): Effect.Effect<Tracer.Span | undefined> =>
  makeSpan("JobCoordinator.start", { attributes: { "job.program": programOf(spec) } })

/** The span of a job, from its start to its end; then it is let go, for ended jobs are kept by the thousand. */
export interface JobSpan {
  current: Tracer.Span | undefined
}

export const jobSpan = (id: JobId, spec: JobSpec, parent: Tracer.Span | undefined): Effect.Effect<JobSpan> =>
  Effect.map(
    makeSpan("Job", { attributes: { "job.id": id, "job.program": programOf(spec) }, parent }),
    (span) => ({ current: span })
  )

export const jobStarted = (latency: number): void => {
  record(started, 1)
  record(startLatency, latency)
}

export const jobEnded = (info: JobInfo, span: JobSpan, clock: Clock.Clock): void => {
  record(outcomeOf(info.status), 1)
  const endedAt = Option.getOrElse(info.endedAt, () => info.startedAt)
  record(duration, endedAt.epochMillis - info.startedAt.epochMillis)
  endJobSpan(span, clock, info)
}

export const endSpan = (span: Tracer.Span | undefined, clock: Clock.Clock, exit: Exit.Exit<unknown, unknown>): void => {
  try {
    span?.end(clock.unsafeCurrentTimeNanos(), exit)
  } catch {
    // As above.
  }
}

export const failJobSpan = (span: JobSpan, clock: Clock.Clock, cause: Cause.Cause<unknown>): void => {
  endSpan(span.current, clock, Exit.failCause(cause))
  span.current = undefined
}

export const endJobSpan = (span: JobSpan, clock: Clock.Clock, info: JobInfo): void => {
  try {
    for (const [name, value] of attributesOf(info)) span.current?.attribute(name, value)
  } catch {
    // As above.
  }
  endSpan(span.current, clock, Exit.void)
  span.current = undefined
}

const attributesOf = ({ output, pid, status, stopReason }: JobInfo): ReadonlyArray<[name: string, value: unknown]> => [
  ["job.pid", pid],
  ...(status._tag === "Exited" ? [["job.exit_code", status.code] as [string, unknown]] : []),
  ...(status._tag === "Killed" ? [["job.signal", status.signal] as [string, unknown]] : []),
  ...Option.toArray(Option.map(stopReason, (reason): [string, unknown] => ["job.stop_reason", reason])),
  ["job.stdout_bytes", output.stdoutBytes],
  ["job.stderr_bytes", output.stderrBytes]
]

const outcomeOf = (status: JobStatus) => {
  if (status._tag === "Killed") return endedAs.killed
  return status._tag === "Exited" && status.code === 0 ? endedAs.succeeded : endedAs.failed
}

/** What is logged of a job. */
export interface Logged {
  readonly id: JobId
  readonly spec: JobSpec
  readonly process: { readonly pid: number }
  readonly state: { readonly status: JobStatus }
}

export type JobLog = (message: string, job: Logged) => Effect.Effect<void> | void

/** How to log what happens to a job; it takes no effect where that will not be seen. A logger that fails does no harm. */
export const jobLog = (runtime: Runtime.Runtime<never>): JobLog => {
  const minimum = FiberRefs.getOrDefault(runtime.fiberRefs, FiberRef.currentMinimumLogLevel)
  return LogLevel.greaterThan(minimum, LogLevel.Debug)
    ? constVoid
    : (message, { id, process, spec, state }) =>
      Effect.logDebug(message).pipe(
        Effect.annotateLogs({ jobId: id, program: programOf(spec), pid: process.pid, status: state.status._tag }),
        Effect.catchAllCause(() => Effect.void)
      )
}
