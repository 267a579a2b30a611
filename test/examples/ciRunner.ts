/**
 * A runner of CI pipelines: steps one after the other, each line of theirs with its time and the step's name. The first
 * that fails is the last; whatever happens, Ctrl-C too, there is a summary, and nothing is left running.
 */
import { Console, Data, DateTime, Duration, Effect, Option, Schema, Stream } from "effect"
import { JobCoordinator, type JobInfo, JobSpec, JobStatus, Output } from "../../src/index.ts"

/** `{ "name": "test", "job": { "command": "npm", "args": ["test"], "env": { "CI": "1" }, "timeout": "10m" } }` */
export const Step = Schema.Struct({ name: Schema.NonEmptyString, job: JobSpec.FromJson })

export type Step = typeof Step.Type

/** A pipeline as it is written in a file. */
export const Pipeline = Schema.parseJson(Schema.Array(Step))

export class StepFailed extends Data.TaggedError("StepFailed")<{
  readonly step: string
  /** How it ended, as a person would say it. */
  readonly reason: string
}> {
  override get message(): string {
    return `${this.step} ${this.reason}`
  }
}

type Print = (line: string) => Effect.Effect<void>

/** Fails with the step that failed, or with why one could not be run. */
export const run = (steps: ReadonlyArray<Step>, print: Print = Console.log) =>
  Effect.suspend(() => {
    const outcomes = new Map<string, string>()
    const conclude = (step: Step) => (outcome: string) => Effect.sync(() => void outcomes.set(step.name, outcome))
    const summary = Effect.suspend(() =>
      Effect.forEach(steps, ({ name }) => print(`${name}: ${outcomes.get(name) ?? "not run"}`), { discard: true })
    )
    return Effect.forEach(steps, (step) =>
      runStep(step, print).pipe(
        Effect.tap(conclude(step)),
        Effect.tapError((error) => conclude(step)(error._tag === "StepFailed" ? error.reason : error.message)),
        Effect.onInterrupt(() => conclude(step)("cancelled"))
      ), { discard: true }).pipe(Effect.ensuring(summary))
  })

/** How long the step took. */
const runStep = ({ job, name }: Step, print: Print) =>
  Effect.gen(function*() {
    const jobs = yield* JobCoordinator.JobCoordinator
    const id = yield* JobCoordinator.startScoped(job)
    // However slowly this prints, nothing is lost: the job waits for it.
    yield* jobs.output(id, { whenBehind: "block" }).pipe(
      Output.lines({ maxLength: 1000 }),
      Stream.runForEach((line) => Effect.flatMap(DateTime.now, (now) => print(format(now, name, line))))
    )
    const status = yield* jobs.wait(id)
    const info = yield* jobs.info(id)
    if (!JobStatus.isSuccess(status)) return yield* new StepFailed({ step: name, reason: reasonOf(status, info) })
    return `passed in ${Duration.format(durationOf(info))}`
  }).pipe(Effect.scoped)

const format = (now: DateTime.Utc, name: string, { isCut, line, source }: Output.OutputLine): string =>
  `${DateTime.formatIso(now)} ${name}${source === "stderr" ? "!" : ":"} ${line}${isCut ? " …" : ""}`

const reasonOf = (status: JobStatus.Ended, info: JobInfo.JobInfo): string =>
  Option.match(info.stopReason, {
    onNone: () => JobStatus.format(status),
    onSome: (reason) => `${JobStatus.format(status)} (${reason}) after ${Duration.format(durationOf(info))}`
  })

const durationOf = ({ endedAt, startedAt }: JobInfo.JobInfo): Duration.Duration =>
  Option.match(endedAt, {
    onNone: () => Duration.zero,
    onSome: (endedAt) => DateTime.distanceDuration(startedAt, endedAt)
  })

// As the program itself, with its pipeline in a file:
// Schema.decode(Pipeline)(text).pipe(Effect.flatMap(run), Effect.provide(layer), NodeRuntime.runMain)
