import { describe, expect, it } from "@effect/vitest"
import type { Attributes } from "@opentelemetry/api"
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  PeriodicExportingMetricReader
} from "@opentelemetry/sdk-metrics"
import { InMemorySpanExporter, type ReadableSpan, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base"
import { Context, Effect, HashMap, Layer, Logger, LogLevel, Metric, Stream, TestClock, Tracer } from "effect"
import { inspect } from "node:util"
import { JobCoordinator } from "../src/JobCoordinator.ts"
import * as JobSpec from "../src/JobSpec.ts"
import { jobs, session } from "./examples/telemetry.ts"
import { settle, simulated } from "./utils.ts"

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
    }))
})

describe("what an application's telemetry does to jobs", () => {
  const scripts = { runs: {}, ends: { end: { code: 0 } }, later: { end: { at: "1 second", code: 0 } } } as const
  const gauge = (name: string) => Effect.map(Metric.value(Metric.gauge(name, descriptions)), (state) => state.value)
  const descriptions = { description: "Jobs that have not ended" }

  it.effect("gauges count what all coordinators of the process have together, and nothing once they are closed", () =>
    Effect.gen(function*() {
      const before = yield* gauge("joblib_jobs_running")
      const running = Effect.map(gauge("joblib_jobs_running"), (value) => value - before)
      yield* Effect.scoped(Effect.gen(function*() {
        const coordinator = Effect.map(Layer.build(Layer.fresh(simulated(scripts))), Context.get(JobCoordinator))
        const [one, other] = [yield* coordinator, yield* coordinator]
        yield* Effect.replicateEffect(one.start(JobSpec.make({ command: "runs" })), 3)
        expect(yield* running).toBe(3)
        yield* other.start(JobSpec.make({ command: "runs" }))
        expect(yield* running).toBe(4)
        yield* other.wait(yield* other.start(JobSpec.make({ command: "ends" })))
        yield* other.list()
        expect(yield* running).toBe(4)
      }))
      expect(yield* running).toBe(0)
    }))

  const brokenTracer = (broken: string) =>
    Tracer.make({
      span: (name, parent, context, links, startTime, kind) => {
        const fail = (what: string) => {
          if (broken === `${what} of ${name}`) throw new Error("the exporter is broken")
        }
        fail("begin")
        return {
          _tag: "Span",
          name,
          spanId: "",
          traceId: "",
          parent,
          context,
          status: { _tag: "Started", startTime },
          attributes: new Map(),
          links,
          sampled: true,
          kind,
          end: () => fail("end"),
          attribute: () => fail("attribute"),
          event: () => {},
          addLinks: () => {}
        }
      },
      context: (f) => f()
    })

  for (const span of ["JobCoordinator.start", "Job"]) {
    for (const part of ["begin", "end", "attribute"]) {
      it.effect(`a tracer that fails (${part} of ${span}) loses no call and no event`, () =>
        Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const events: Array<string> = []
          yield* Effect.fork(Stream.runForEach(jobs.events, (event) => Effect.sync(() => events.push(event._tag))))
          yield* settle
          const id = yield* jobs.start(JobSpec.make({ command: "later" }))
          yield* TestClock.adjust("1 second")
          yield* jobs.wait(id)
          yield* settle
          expect(events).toEqual(["JobStarted", "JobEnded"])
        }).pipe(Effect.withTracer(brokenTracer(`${part} of ${span}`)), Effect.provide(simulated(scripts))))
    }
  }

  it.effect("a logger that fails loses no call and no event", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(JobSpec.make({ command: "later" }))
      expect((yield* jobs.status(id))._tag).toBe("Running")
      yield* TestClock.adjust("1 second")
      expect((yield* jobs.wait(id))._tag).toBe("Exited")
      expect(yield* jobs.list()).toHaveLength(1)
    }).pipe(
      Effect.provide(simulated(scripts)),
      Effect.provide(Logger.replace(
        Logger.defaultLogger,
        Logger.make(() => {
          throw new Error("the logger is broken")
        })
      )),
      Logger.withMinimumLogLevel(LogLevel.Debug)
    ))
})

it.effect("a job is logged as started, and then as ended, even if it has ended before it is announced", () => {
  const told: Array<string> = []
  const logger = Logger.make(({ message }) => void told.push(String(message)))
  return Effect.gen(function*() {
    const coordinator = yield* JobCoordinator
    yield* coordinator.wait(yield* coordinator.start(JobSpec.make({ command: "quick" })))
    expect(yield* coordinator.list()).toHaveLength(1)
    expect(told).toEqual(["Job started", "Job ended"])
  }).pipe(
    Effect.provide(simulated({ quick: { end: { code: 0 } } })),
    Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
    Logger.withMinimumLogLevel(LogLevel.Debug)
  )
})
