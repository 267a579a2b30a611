/**
 * What a coordinator tells of itself: metrics, a span per job, and logs at debug level.
 *
 * Only the program's name is told of what a job runs: arguments, environment and shell lines may hold secrets.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import { constVoid } from "effect/Function"
import * as LogLevel from "effect/LogLevel"
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import type * as Runtime from "effect/Runtime"
import type * as Tracer from "effect/Tracer"
import type { JobId } from "../../JobId.ts"
import type { JobSpec } from "../../JobSpec.ts"
import type { Worker } from "../coordinator/worker.ts"

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

const programOf = (spec: JobSpec): string => spec.shell === false ? spec.command : "shell"

/** The span of a call of `start`. */
export const startSpan = (spec: JobSpec): Effect.Effect<Tracer.Span> =>
  Effect.makeSpan("JobCoordinator.start", {
    attributes: { "job.program": programOf(spec) },
    captureStackTrace: false
  })

/** The span of a job, from its start to its end; then it is let go, for ended jobs are kept by the thousand. */
export interface JobSpan {
  current: Tracer.Span | undefined
}

export const jobSpan = (id: JobId, spec: JobSpec, parent: Tracer.Span): Effect.Effect<JobSpan> =>
  Effect.map(
    Effect.makeSpan("Job", {
      attributes: { "job.id": id, "job.program": programOf(spec) },
      captureStackTrace: false,
      parent
    }),
    (span) => ({ current: span })
  )

export const jobStarted = (latency: number): void => {
  record(started, 1)
  record(startLatency, latency)
}

export const endSpan = (span: Tracer.Span, clock: Clock.Clock, exit: Exit.Exit<unknown, unknown>): void =>
  span.end(clock.unsafeCurrentTimeNanos(), exit)

export const jobEnded = (worker: Worker, clock: Clock.Clock): void => {
  const { broadcaster, process, span: { current: span }, state } = worker
  const { status } = state
  record(outcomeOf(worker), 1)
  record(duration, (state.endedAt ?? state.startedAt) - state.startedAt)
  worker.span.current = undefined
  if (span === undefined) return
  span.attribute("job.pid", process.pid)
  if (status._tag === "Exited") span.attribute("job.exit_code", status.code)
  if (status._tag === "Killed") span.attribute("job.signal", status.signal)
  if (state.stopReason !== undefined) span.attribute("job.stop_reason", state.stopReason)
  span.attribute("job.stdout_bytes", broadcaster.log.written.stdout)
  span.attribute("job.stderr_bytes", broadcaster.log.written.stderr)
  endSpan(span, clock, Exit.void)
}

const outcomeOf = ({ state: { status } }: Worker) => {
  if (status._tag === "Killed") return endedAs.killed
  return status._tag === "Exited" && status.code === 0 ? endedAs.succeeded : endedAs.failed
}

/** How to log what happens to a job; it takes no effect where that will not be seen. */
export const jobLog = (runtime: Runtime.Runtime<never>) => {
  const minimum = FiberRefs.getOrDefault(runtime.fiberRefs, FiberRef.currentMinimumLogLevel)
  return LogLevel.greaterThan(minimum, LogLevel.Debug)
    ? constVoid
    : (message: string, { id, process, spec, state }: Worker): Effect.Effect<void> | void =>
      Effect.logDebug(message).pipe(
        Effect.annotateLogs({ jobId: id, program: programOf(spec), pid: process.pid, status: state.status._tag })
      )
}
