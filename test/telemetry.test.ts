import { describe, expect, it } from "@effect/vitest"
import type { Attributes } from "@opentelemetry/api"
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  PeriodicExportingMetricReader
} from "@opentelemetry/sdk-metrics"
import { InMemorySpanExporter, type ReadableSpan, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base"
import { Effect, HashMap, Logger, LogLevel } from "effect"
import { inspect } from "node:util"
import { jobs, session } from "./examples/telemetry.ts"

interface Log {
  readonly level: string
  readonly text: string
  readonly annotations: Record<string, unknown>
}

/** Runs the session to the close of its layer; what has been exported and logged then. */
const run = Effect.gen(function*() {
  const spans = new InMemorySpanExporter()
  const metrics = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const reader = new PeriodicExportingMetricReader({ exporter: metrics, exportIntervalMillis: 1_000_000 })
  const logs: Array<Log> = []
  const logger = Logger.make(({ annotations, logLevel, message }) => {
    logs.push({
      level: logLevel._tag,
      text: inspect(message, { depth: 9 }),
      annotations: Object.fromEntries(HashMap.toEntries(annotations))
    })
  })
  // The processor would forget its spans when the layer closes.
  const ended: Array<ReadableSpan> = []
  const processor = new SimpleSpanProcessor(spans)
  const onEnd = processor.onEnd.bind(processor)
  processor.onEnd = (span) => {
    ended.push(span)
    onEnd(span)
  }
  yield* Effect.gen(function*() {
    yield* session
    yield* Effect.promise(() => reader.forceFlush())
  }).pipe(
    Effect.provide(jobs(processor, reader)),
    Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
    Logger.withMinimumLogLevel(LogLevel.Debug)
  )
  const exported = metrics.getMetrics().at(-1)?.scopeMetrics.flatMap((scope) => scope.metrics) ?? []
  return { spans: ended, metrics: exported, logs }
})

describe("telemetry", () => {
  it.live("OpenTelemetry sees a span per start and per job, the metrics, and no secret", () =>
    Effect.gen(function*() {
      const { logs, metrics, spans } = yield* run
      const named = (name: string) => spans.filter((span) => span.name === name)
      const root = named("session")[0]

      const starts = named("JobCoordinator.start")
      expect(starts.map((span) => span.attributes["job.program"])).toEqual(["sh", "head", "shell", "/no/such/program"])
      expect(starts.every((span) => span.parentSpanContext?.spanId === root?.spanContext().spanId)).toBe(true)

      const [failed, exited, killed] = ["/no/such/program", "sh", "shell"].map((program) =>
        named("Job").find((span) => span.attributes["job.program"] === program)
      )
      expect(exited?.attributes).toMatchObject({
        "job.exit_code": 3,
        "job.stdout_bytes": 9,
        "job.stderr_bytes": 0
      })
      expect(exited?.attributes["job.id"]).toMatch(/^[0-9a-f-]{36}$/)
      expect(exited?.spanContext().traceId).toBe(root?.spanContext().traceId)
      expect(killed?.attributes).toMatchObject({ "job.signal": "SIGTERM", "job.stop_reason": "caller" })
      expect(failed?.status.code).toBe(2)

      const points = (name: string): ReadonlyArray<{ readonly attributes: Attributes; readonly value: unknown }> =>
        metrics.find((metric) => metric.descriptor.name === name)?.dataPoints ?? []
      for (
        const name of [
          "joblib_jobs_running",
          "joblib_jobs_started",
          "joblib_jobs_ended",
          "joblib_start_latency_millis",
          "joblib_job_duration_millis",
          "joblib_output_bytes",
          "joblib_subscribers",
          "joblib_evicted_bytes",
          "joblib_mailbox_depth"
        ]
      ) expect(points(name).length, name).toBeGreaterThan(0)
      const outcomes = points("joblib_jobs_ended").map((point) => [point.attributes["outcome"], point.value])
      expect(outcomes).toEqual(expect.arrayContaining([["failed", 1], ["killed", 1]]))
      expect(points("joblib_jobs_running").map((point) => point.value)).toEqual([0])

      expect(logs.filter((log) => log.level === "Debug" && log.annotations["jobId"] !== undefined).length).toBe(6)
      expect(logs.filter((log) => log.level !== "Debug")).toEqual([])

      const told = inspect(
        [spans.map((span) => [span.name, span.attributes, span.events, span.status]), metrics, logs],
        {
          depth: 12
        }
      )
      expect(told).not.toMatch(/s3cret|hunter2/)
    }), 30_000)
})
