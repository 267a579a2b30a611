/**
 * A build runner: runs commands side by side, follows their lines with prefixes, and stops the rest when one fails.
 */
import { Console, Data, Effect, Layer, Option, Stream } from "effect"
import { JobCoordinator, type JobId, JobSpec, type JobStatus, NodeProcessSpawner, Output } from "../../src/index.ts"

/** Command lines of the shell, by name. */
export type Steps = Readonly<Record<string, string>>

export class BuildFailed extends Data.TaggedError("BuildFailed")<{
  readonly step: string
  readonly status: JobStatus.Ended
}> {}

/** Fails with the step that failed first; whatever comes of it, nothing is left running. */
export const build = (steps: Steps, print: (line: string) => Effect.Effect<void> = Console.log) =>
  Effect.gen(function*() {
    const jobs = yield* JobCoordinator.JobCoordinator
    // A job that has ended is not there to be stopped any more: that is no matter here.
    const stop = (id: JobId.JobId) => Effect.ignore(jobs.stop(id))

    const started = yield* Effect.forEach(
      Object.entries(steps),
      ([step, command]) =>
        jobs.start(JobSpec.make({ command, shell: true, labels: { step } })).pipe(
          Effect.map((id) => ({ step, id })),
          Effect.acquireRelease(({ id }) => stop(id))
        )
    )
    const stopAll = Effect.forEach(started, ({ id }) => stop(id), { concurrency: "unbounded", discard: true })

    const failures = yield* Effect.forEach(started, ({ id, step }) =>
      Effect.gen(function*() {
        yield* jobs.output(id).pipe(
          Output.lines(),
          Stream.runForEach(({ line }) => print(`[${step}] ${line}`))
        )
        const { status, stopReason } = yield* jobs.info(id)
        if (status._tag === "Running" || status._tag === "Exited" && status.code === 0) return []
        if (Option.isSome(stopReason)) return []
        yield* stopAll
        return [new BuildFailed({ step, status })]
      }), { concurrency: "unbounded" })

    const [failure] = failures.flat()
    if (failure !== undefined) return yield* failure
  }).pipe(Effect.scoped)

/** Of an application: `NodeRuntime.runMain(Effect.provide(build({ ... }), layer))`. */
export const layer = JobCoordinator.layer.pipe(Layer.provide(NodeProcessSpawner.layer))
