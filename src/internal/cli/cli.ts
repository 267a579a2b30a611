/**
 * The command line.
 *
 * @internal
 */
import * as Command from "@effect/cli/Command"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as Options from "@effect/cli/Options"
import * as ValidationError from "@effect/cli/ValidationError"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as JobCoordinator from "../../JobCoordinator.ts"
import * as JobSpec from "../../JobSpec.ts"
import * as NodeProcessSpawner from "../../NodeProcessSpawner.ts"
import * as Durations from "../time/duration.ts"
import * as Run from "./run.ts"

const units: Record<string, Duration.Unit> = { ms: "millis", s: "seconds", m: "minutes", h: "hours", d: "days" }

const invalid = (message: string) => Effect.fail(ValidationError.invalidValue(HelpDoc.p(message)))

/** `30s`, `1.5h`, or Effect's own `30 seconds`. */
const duration = (name: string) =>
  Options.text(name).pipe(
    Options.withPseudoName("duration"),
    Options.mapEffect((text) => {
      const [, amount, unit = ""] = /^(\d+(?:\.\d+)?)([a-z]+)$/.exec(text) ?? []
      const input = amount !== undefined && units[unit] !== undefined ? `${amount} ${units[unit]}` : text
      return Option.match(Durations.decode(input), {
        onNone: () => invalid(`--${name} takes a time such as 30s, 500ms or "2 minutes", not "${text}"`),
        onSome: Effect.succeed
      })
    })
  )

/** `NAME=VALUE`, any number of times. */
const assignments = (name: string) =>
  Options.text(name).pipe(
    Options.withPseudoName("name=value"),
    Options.repeated,
    Options.mapEffect(Effect.forEach((text) => {
      const end = text.indexOf("=")
      return end > 0
        ? Effect.succeed([text.slice(0, end), text.slice(end + 1)] as const)
        : invalid(`--${name} takes NAME=VALUE${end === 0 ? ", and a name is not empty" : `, not "${text}"`}`)
    })),
    Options.map((entries): Record<string, string> => Object.fromEntries(entries))
  )

const options = {
  timeout: duration("timeout").pipe(
    Options.withDescription("stop the program after so long, such as 30s, 500ms or \"2 minutes\""),
    Options.optional
  ),
  grace: duration("grace").pipe(
    Options.withDescription("how long it has to end, once it was told to, before it is killed (default: 5s)"),
    Options.optional
  ),
  env: assignments("env").pipe(Options.withDescription("set a variable of its environment")),
  cwd: Options.text("cwd").pipe(
    Options.withPseudoName("directory"),
    Options.withDescription("where to run it"),
    Options.optional
  )
}

const whereItGoes = "What to run goes after two dashes: joblib run -- ls -l"

const runCommand = (program: ReadonlyArray<string>) =>
  Command.make("run", options, ({ cwd, env, grace, timeout }) =>
    Effect.gen(function*() {
      const [command, ...args] = program
      if (command === undefined) return yield* invalid(whereItGoes)
      process.exitCode = yield* Run.runAttached(JobSpec.make({
        command,
        args,
        env,
        cwd: Option.getOrUndefined(cwd),
        timeout: Option.getOrUndefined(timeout),
        stop: { gracePeriod: Option.getOrUndefined(grace) },
        stdin: Run.stdin()
      }))
    })).pipe(
      Command.provide(Layer.provide(JobCoordinator.layer, NodeProcessSpawner.layer)),
      Command.withDescription(
        "Runs a program as a job, in the place of this command: joblib run [options] -- program args... " +
          "Its input (unless that is a terminal), output, error output, exit code and signals are passed on. " +
          "Nothing that it started outlives it, nor this command."
      )
    )

/** What follows `--` is the program's, and not looked at. */
export const run = (argv: ReadonlyArray<string>, version: string) => {
  const end = argv.indexOf("--")
  const program = end === -1 ? [] : argv.slice(end + 1)
  return Command.make("joblib").pipe(
    Command.withSubcommands([runCommand(program)]),
    Command.run({ name: "joblib", version })
  )(end === -1 ? argv : argv.slice(0, end)).pipe(
    Effect.mapError((error) => end === -1 && argv[2] === "run" ? withDashes(error) : error)
  )
}

/** A program that was given without the dashes is an argument that nobody knows. */
const withDashes = <E>(error: E): E | ValidationError.ValidationError => {
  const text = ValidationError.isValidationError(error) ? HelpDoc.toAnsiText(error.error).trim() : ""
  return text.includes("unknown argument") ? ValidationError.invalidValue(HelpDoc.p(`${text}. ${whereItGoes}`)) : error
}
