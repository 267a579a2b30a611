/**
 * A complete application: it runs the checks of a project side by side, shows what they print line by line, keeps the
 * bytes of each in a file, and says how they ended. When one fails, the others are stopped.
 */
import { FileSystem, Path } from "@effect/platform"
import { NodeContext } from "@effect/platform-node"
import { Config, Console, Context, Effect, Layer, Stream } from "effect"
import { JobConfig, JobCoordinator, type JobError, JobSpec, NodeProcessSpawner } from "../../src/index.ts"

/** Where people look. */
export class Screen extends Context.Tag("app/Screen")<Screen, {
  readonly show: (line: string) => Effect.Effect<void>
}>() {
  static readonly layerConsole = Layer.succeed(Screen, { show: (line) => Console.log(line) })
}

/** Where output is kept: a file for each check, in the directory that `LOGS` names. */
export class Logs extends Context.Tag("app/Logs")<Logs, {
  readonly append: (check: string, bytes: Uint8Array) => Effect.Effect<void>
}>() {
  static readonly layerFiles = Layer.effect(
    Logs,
    Effect.gen(function*() {
      const files = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const directory = yield* Config.string("LOGS").pipe(Config.withDefault("logs"))
      yield* files.makeDirectory(directory, { recursive: true })
      return {
        append: (check, bytes) =>
          Effect.orDie(files.writeFile(path.join(directory, `${check}.log`), bytes, { flag: "a" }))
      }
    })
  )
}

export type Outcome = "passed" | "failed" | "stopped"

/** Runs commands as checks. */
export class Checks extends Context.Tag("app/Checks")<Checks, {
  readonly run: (
    commands: Readonly<Record<string, string>>
  ) => Effect.Effect<
    Readonly<Record<string, Outcome>>,
    | JobError.JobStartError
    | JobError.InvalidJobSpec
    | JobError.JobLimitReached
    | JobCoordinator.OutputError
  >
}>() {
  static readonly layer = Layer.effect(
    Checks,
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator.JobCoordinator
      const screen = yield* Screen
      const logs = yield* Logs

      const linesOf = (output: Stream.Stream<Uint8Array, JobCoordinator.OutputError>) =>
        output.pipe(Stream.decodeText(), Stream.splitLines)

      const check = (name: string, command: string) =>
        Effect.gen(function*() {
          const id = yield* jobs.start(JobSpec.make({ command, shell: true, labels: { check: name } }))
          yield* Effect.all([
            Stream.runForEach(jobs.output(id), (chunk) => logs.append(name, chunk.bytes)),
            Stream.runForEach(linesOf(jobs.stdout(id)), (line) => screen.show(`${name}: ${line}`)),
            Stream.runForEach(linesOf(jobs.stderr(id)), (line) => screen.show(`${name}! ${line}`))
          ], { concurrency: "unbounded" })
          const ended = yield* jobs.wait(id)
          const outcome: Outcome = ended._tag === "Killed" ? "stopped" : ended.code === 0 ? "passed" : "failed"
          if (outcome === "failed") yield* stopOthers
          return outcome
        })

      /** A job may end while we are about to stop it: that is as good. */
      const stopOthers = Effect.gen(function*() {
        for (const job of yield* jobs.list({ status: "Running" })) {
          yield* Effect.forkDaemon(Effect.ignore(jobs.stop(job.id)))
        }
      })

      return {
        run: (commands) =>
          Effect.all(
            Object.fromEntries(Object.entries(commands).map(([name, command]) => [name, check(name, command)])),
            { concurrency: "unbounded" }
          )
      }
    })
  )
}

/** Jobs, as the environment configures them (`JOBLIB_MAX_RUNNING=8`, …). */
export const Jobs = JobCoordinator.layer.pipe(
  Layer.provide(NodeProcessSpawner.layer),
  Layer.provide(JobConfig.layerConfig)
)

export const App = Checks.layer.pipe(
  Layer.provide([Jobs, Screen.layerConsole, Logs.layerFiles]),
  Layer.provide(NodeContext.layer)
)

export const main = Effect.gen(function*() {
  const checks = yield* Checks
  const outcomes = yield* checks.run({ lint: "npm run lint", types: "npx tsc", tests: "npm test" })
  yield* Console.table(outcomes)
})

// As the program itself: NodeRuntime.runMain(Effect.provide(main, App))
