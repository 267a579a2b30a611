/**
 * What to run: a program and its surroundings, as plain data.
 *
 * @since 0.1.0
 */
import * as Command from "@effect/platform/Command"
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { InvalidJobSpec } from "./JobError.ts"
import { Signal } from "./JobStatus.ts"

const noNul = Schema.filter((text: string) => text.includes("\0") ? "must not contain a NUL character" : undefined)

const Text = Schema.String.pipe(noNul)

const NonEmptyText = Text.pipe(Schema.nonEmptyString({ message: () => "must not be empty" }))

const Name = Text.pipe(
  Schema.filter((name) => name === "" || name.includes("=") ? "must be a name: not empty, without \"=\"" : undefined)
)

const PositiveInt = Schema.Int.pipe(Schema.positive())

const NonNegativeInt = Schema.Int.pipe(Schema.nonNegative())

/**
 * How a job is stopped: `signal` to its whole process group, then, `gracePeriod` later, SIGKILL.
 * What is absent comes from `JobConfig.stop` (SIGTERM, 5 seconds).
 *
 * @since 0.1.0
 * @category models
 */
export const StopPolicy = Schema.Struct({
  signal: Schema.optionalWith(Signal, { exact: true }),
  gracePeriod: Schema.optionalWith(Schema.Duration, { exact: true })
})

/**
 * @since 0.1.0
 * @category models
 */
export type StopPolicy = typeof StopPolicy.Type

/**
 * Limits on the resources of each process of a job, set before the program runs: `cpuTime` (whole seconds, rounded
 * up), `memory` (address space, in bytes), `openFiles`, `fileSize` (bytes), `processes` (of the user), `coreSize`
 * (bytes) and `niceness` (-20 to 19). See `setrlimit(2)` and `nice(1)`.
 *
 * @since 0.1.0
 * @category models
 */
export const Limits = Schema.Struct({
  cpuTime: Schema.optionalWith(Schema.Duration, { exact: true }),
  memory: Schema.optionalWith(PositiveInt, { exact: true }),
  openFiles: Schema.optionalWith(PositiveInt, { exact: true }),
  fileSize: Schema.optionalWith(NonNegativeInt, { exact: true }),
  processes: Schema.optionalWith(PositiveInt, { exact: true }),
  coreSize: Schema.optionalWith(NonNegativeInt, { exact: true }),
  niceness: Schema.optionalWith(Schema.Int.pipe(Schema.between(-20, 19)), { exact: true })
})

/**
 * @since 0.1.0
 * @category models
 */
export type Limits = typeof Limits.Type

/**
 * What to run.
 *
 * - `command`, `args`: the program, found in the `PATH` unless it has a slash, and its arguments.
 * - `cwd`: the working directory; default: that of the host.
 * - `env`: variables to set, or with `null` to unset; `extendEnv` (default `true`): on top of the host's.
 * - `shell` (default `false`): run `command` and `args`, joined by spaces, as a line of `/bin/sh`, or of the shell named.
 * - `stdin` (default `"ignore"`): `/dev/null`, or a `"pipe"` that `JobCoordinator.input` writes to.
 * - `timeout`: stop the job after so long; default: never.
 * - `stop`: how to stop it.
 * - `drainTimeout`: how long to read on when something that left the process group still holds a pipe; default:
 *   `JobConfig.drainTimeout`.
 * - `limits`: see `Limits`.
 * - `output.maxBytes`: how much output to keep, in bytes; default: `JobConfig.output.maxBytesPerJob`.
 * - `labels` (default none): anything that helps to find the job in `list`.
 *
 * @since 0.1.0
 * @category models
 */
export const JobSpec = Schema.Struct({
  command: NonEmptyText,
  args: Schema.optionalWith(Schema.Array(Text), { default: () => [] }),
  cwd: Schema.optionalWith(NonEmptyText, { exact: true }),
  env: Schema.optionalWith(Schema.Record({ key: Name, value: Schema.NullOr(Text) }), { default: () => ({}) }),
  extendEnv: Schema.optionalWith(Schema.Boolean, { default: () => true }),
  shell: Schema.optionalWith(Schema.Union(Schema.Boolean, NonEmptyText), { default: () => false }),
  stdin: Schema.optionalWith(Schema.Literal("ignore", "pipe"), { default: () => "ignore" }),
  timeout: Schema.optionalWith(Schema.Duration, { exact: true }),
  stop: Schema.optionalWith(StopPolicy, { exact: true }),
  drainTimeout: Schema.optionalWith(Schema.Duration, { exact: true }),
  limits: Schema.optionalWith(Limits, { exact: true }),
  output: Schema.optionalWith(
    Schema.Struct({ maxBytes: Schema.optionalWith(PositiveInt, { exact: true }) }),
    { exact: true }
  ),
  labels: Schema.optionalWith(Schema.Record({ key: Schema.String, value: Schema.String }), { default: () => ({}) })
})

/**
 * @since 0.1.0
 * @category models
 */
export interface JobSpec extends Schema.Schema.Type<typeof JobSpec> {}

/**
 * What `make` takes: only `command` is required, and times are written in any way that Effect knows.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  readonly command: string
  readonly args?: ReadonlyArray<string> | undefined
  readonly cwd?: string | undefined
  readonly env?: Readonly<Record<string, string | null>> | undefined
  readonly extendEnv?: boolean | undefined
  readonly shell?: boolean | string | undefined
  readonly stdin?: "ignore" | "pipe" | undefined
  readonly timeout?: Duration.DurationInput | undefined
  readonly stop?: {
    readonly signal?: Signal | undefined
    readonly gracePeriod?: Duration.DurationInput | undefined
  } | undefined
  readonly drainTimeout?: Duration.DurationInput | undefined
  readonly limits?: {
    readonly cpuTime?: Duration.DurationInput | undefined
    readonly memory?: number | undefined
    readonly openFiles?: number | undefined
    readonly fileSize?: number | undefined
    readonly processes?: number | undefined
    readonly coreSize?: number | undefined
    readonly niceness?: number | undefined
  } | undefined
  readonly output?: { readonly maxBytes?: number | undefined } | undefined
  readonly labels?: Readonly<Record<string, string>> | undefined
}

/**
 * A spec with its defaults filled in. It never throws: what is invalid stays in place, and `start` says what is wrong.
 *
 * @example
 * import { JobSpec } from "joblib"
 *
 * export const build = JobSpec.make({
 *   command: "npm",
 *   args: ["run", "build"],
 *   env: { CI: "1", NODE_OPTIONS: null },
 *   timeout: "10 minutes"
 * })
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options): JobSpec => {
  const { args = [], env = {}, extendEnv = true, labels = {}, limits, shell = false, stdin = "ignore", stop, ...rest } =
    options
  return {
    ...withoutUndefined({
      ...rest,
      timeout: normalize(rest.timeout),
      drainTimeout: normalize(rest.drainTimeout),
      stop: withDuration(stop, "gracePeriod"),
      limits: withDuration(limits, "cpuTime"),
      output: withDuration(rest.output)
    }),
    args,
    env,
    extendEnv,
    shell,
    stdin,
    labels
  } as JobSpec
}

const isObject = (u: unknown): u is object => typeof u === "object" && u !== null && !Array.isArray(u)

const withoutUndefined = (options: object): object =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))

const withDuration = (options: object | undefined, field?: string): unknown =>
  isObject(options)
    ? withoutUndefined(
      field !== undefined && field in options
        ? { ...options, [field]: normalize(options[field as keyof typeof options]) }
        : options
    )
    : options

/** A duration as Effect knows it; whatever is none (or negative, which Effect takes for zero) stays as it is. */
const normalize = (input: unknown): unknown => {
  if (input === undefined || Duration.isDuration(input)) return input
  const negative = typeof input === "number" || typeof input === "bigint"
    ? !(input >= 0)
    : typeof input === "string"
    ? input.trimStart().startsWith("-")
    : Array.isArray(input) && input.some((part) => !(part >= 0))
  return negative ? input : Option.getOrElse(Duration.decodeUnknown(input), () => input)
}

const validateSpec = Schema.validateEither(JobSpec)

/**
 * The spec, if all its fields are what they should be.
 *
 * @since 0.1.0
 * @category combinators
 */
export const validate = (spec: JobSpec): Either.Either<JobSpec, InvalidJobSpec> =>
  Either.mapLeft(validateSpec(spec), (error) => {
    const issue = ParseResult.ArrayFormatter.formatErrorSync(error)[0]
    return new InvalidJobSpec({
      field: issue === undefined || issue.path.length === 0 ? "spec" : issue.path.join("."),
      reason: issue?.message ?? error.message
    })
  })

/**
 * The spec of an `@effect/platform` `Command`. Its standard input becomes `"ignore"`: a `Command` says `"pipe"` unless
 * told otherwise, and a program that reads a pipe which nobody closes never ends. What a job cannot keep of a
 * `Command` (a pipeline, a stream as input, a user id, `inherit` or a sink as output) is an `InvalidJobSpec` that says
 * what to do instead.
 *
 * @since 0.1.0
 * @category constructors
 */
export const fromCommand = (command: Command.Command): Either.Either<JobSpec, InvalidJobSpec> => {
  const invalid = (field: string, reason: string) => Either.left(new InvalidJobSpec({ field, reason }))
  if (command._tag === "PipedCommand") {
    return invalid("command", "a pipeline is several processes: run it in a shell, as sh -c 'a | b'")
  }
  if (command.stdin === "inherit") {
    return invalid("stdin", "\"inherit\" would share the host's input: make a JobSpec with stdin: \"pipe\" and feed it")
  }
  if (typeof command.stdin !== "string") {
    return invalid("stdin", "make a JobSpec with stdin: \"pipe\", and run the stream into JobCoordinator.input")
  }
  if (command.stdout !== "pipe") {
    return invalid("stdout", "the output of a job is kept by its coordinator: run JobCoordinator.stdout into your sink")
  }
  if (command.stderr !== "pipe") {
    return invalid("stderr", "the output of a job is kept by its coordinator: run JobCoordinator.stderr into your sink")
  }
  if (Option.isSome(command.uid) || Option.isSome(command.gid)) {
    return invalid("uid", "a job runs as the host's user: start it through setpriv(1) or su(1)")
  }
  return Either.right(make({
    command: command.command,
    args: command.args,
    cwd: Option.getOrUndefined(command.cwd),
    env: Object.fromEntries(HashMap.toEntries(command.env)),
    extendEnv: command.extendEnv,
    shell: command.shell
  }))
}

/**
 * The spec as an `@effect/platform` `Command`, with `hostEnv` (default: nothing) as the environment that it extends.
 * Times, limits and labels have no place in a `Command`.
 *
 * @since 0.1.0
 * @category combinators
 */
export const toCommand = (
  spec: JobSpec,
  hostEnv: Readonly<Record<string, string | undefined>> = {}
): Command.Command => {
  const unsets = Object.values(spec.env).includes(null)
  return Command.make(spec.command, ...spec.args).pipe(
    // A Command cannot unset a variable: where one must go, the environment is spelled out.
    spec.extendEnv && !unsets
      ? Command.env(withoutNulls(spec.env))
      : Command.env(environment(spec, hostEnv), { extendEnv: false }),
    Command.runInShell(spec.shell),
    Command.stdin("pipe"),
    spec.cwd === undefined ? (command) => command : Command.workingDirectory(spec.cwd)
  )
}

const withoutNulls = (env: JobSpec["env"]): Record<string, string> =>
  Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== null))

/**
 * The environment in which the program runs, given that of the host.
 *
 * @since 0.1.0
 * @category combinators
 */
export const environment = (
  spec: Pick<JobSpec, "env" | "extendEnv">,
  hostEnv: Readonly<Record<string, string | undefined>>
): Record<string, string> => {
  const env: Record<string, string> = {}
  if (spec.extendEnv) {
    for (const name in hostEnv) {
      const value = hostEnv[name]
      if (value !== undefined) env[name] = value
    }
  }
  for (const [name, value] of Object.entries(spec.env)) {
    if (value === null) delete env[name]
    else env[name] = value
  }
  return env
}
