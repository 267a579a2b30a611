/**
 * A build runner: runs commands side by side, follows their lines with prefixes, and stops the rest when one fails.
 */
import { Console, Data, Effect, Layer, Option, Stream } from "effect"
import { JobCoordinator, JobSpec, JobStatus, NodeProcessSpawner, Output } from "../../src/index.ts"

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
    const started = yield* Effect.forEach(Object.entries(steps), ([step, command]) =>
      Effect.map(
        JobCoordinator.startScoped(JobSpec.make({ command, shell: true, labels: { step } })),
        (id) => ({ step, id })
      ))
    // A job that has ended is not there to be stopped any more: that is no matter here.
    const stopAll = Effect.forEach(started, ({ id }) => Effect.ignore(jobs.stop(id)), { concurrency: "unbounded" })

    const failures = yield* Effect.forEach(started, ({ id, step }) =>
      Effect.gen(function*() {
        yield* jobs.output(id).pipe(
          Output.lines(),
          Stream.runForEach(({ line }) => print(`[${step}] ${line}`))
        )
        const { status, stopReason } = yield* jobs.info(id)
        if (status._tag === "Running" || JobStatus.isSuccess(status)) return []
        if (Option.isSome(stopReason)) return []
        yield* stopAll
        return [new BuildFailed({ step, status })]
      }), { concurrency: "unbounded" })

    const [failure] = failures.flat()
    if (failure !== undefined) return yield* failure
  }).pipe(Effect.scoped)

/** Of an application: `NodeRuntime.runMain(Effect.provide(build({ ... }), layer))`. */
export const layer = JobCoordinator.layer.pipe(Layer.provide(NodeProcessSpawner.layer))
