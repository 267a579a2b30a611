/**
 * A coordinator whose spans and metrics go to OpenTelemetry.
 */
import { NodeSdk } from "@effect/opentelemetry"
import type { MetricReader } from "@opentelemetry/sdk-metrics"
import type { SpanProcessor } from "@opentelemetry/sdk-trace-base"
import { Effect, Layer, Stream } from "effect"
import { JobCoordinator, JobSpec, NodeProcessSpawner } from "../../src/index.ts"

/** What every application has: where its telemetry goes. */
export const telemetry = (spanProcessor: SpanProcessor, metricReader: MetricReader) =>
  NodeSdk.layer(() => ({ resource: { serviceName: "builds" }, spanProcessor, metricReader }))

/** Telemetry is provided to the coordinator too: a job's span ends with the job, not with the call that started it. */
export const jobs = (...exporters: Parameters<typeof telemetry>) =>
  JobCoordinator.layer.pipe(
    Layer.provide(NodeProcessSpawner.layer),
    Layer.provideMerge(telemetry(...exporters))
  )

export const session = Effect.gen(function*() {
  const jobs = yield* JobCoordinator.JobCoordinator
  const login = yield* jobs.start(JobSpec.make({
    command: "sh",
    args: ["-c", "printf \"logged in\"; exit 3", "--password=hunter2"],
    env: { TOKEN: "s3cret" }
  }))
  yield* Stream.runDrain(jobs.output(login))
  const chatter = yield* jobs.start(JobSpec.make({
    command: "head",
    args: ["-c", "200000", "/dev/zero"],
    output: { maxBytes: 1000 }
  }))
  yield* jobs.wait(chatter)
  const server = yield* jobs.start(JobSpec.make({ command: "sleep 1000 # s3cret", shell: true }))
  yield* jobs.stop(server)
  yield* Effect.ignore(jobs.start(JobSpec.make({ command: "/no/such/program", args: ["s3cret"] })))
}).pipe(Effect.withSpan("session"))
