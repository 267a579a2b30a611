/**
 * What to run: a program and its surroundings, as plain data.
 *
 * @since 0.1.0
 */
import * as Command from "@effect/platform/Command"
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import { identity } from "effect/Function"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Durations from "./internal/time/duration.ts"
import { InvalidJobSpec } from "./JobError.ts"
import { Signal } from "./JobStatus.ts"

// A message of Schema's own would show what stands in the wrong place, and that may be a secret.
const AnyText = Schema.String.annotations({ message: () => "must be a string" })

const nul = "must not contain a NUL character"
const Text = AnyText.pipe(Schema.filter((text) => text.includes("\0") ? nul : undefined))

const NonEmptyText = Text.pipe(Schema.nonEmptyString({ message: () => "must not be empty" }))

// Schema loses a property of the name __proto__.
const Key = Schema.String.annotations({ arbitrary: () => (fc) => fc.string().filter((key) => key !== "__proto__") })

const Value = Schema.NullOr(Text).annotations({
  message: ({ actual }) => ({ message: typeof actual === "string" ? nul : "must be a string, or null", override: true })
})

// A filter of the keys themselves would drop what it does not let pass.
const Environment = Schema.Record({ key: Key, value: Value }).annotations({
  message: () => "must be an object"
}).pipe(
  Schema.filter((env) =>
    Object.keys(env).filter((name) => !isName(name)).map((name) => ({
      path: [name],
      message: "must have a name that is not empty and has no \"=\" and no NUL character in it"
    }))
  )
)

const isName = (name: string): boolean => name !== "" && !name.includes("=") && !name.includes("\0")

const notATime = {
  message: () => ({ message: "must be a duration, such as \"5 seconds\", and not negative", override: true })
}

// Milliseconds that are no safe integer cannot become JSON.
const Time = Schema.compose(
  Schema.Duration,
  Schema.DurationFromSelf.pipe(
    Schema.filter((time) => time.value._tag !== "Millis" || Number.isSafeInteger(time.value.millis))
  ).annotations(notATime)
).annotations(notATime)

/** What a field stands for that is absent, or `undefined`. Schema's own way to say this would show what else is in it. */
const withDefault = <A, I>(schema: Schema.Schema<A, I>, defaultValue: () => NoInfer<A>, reason: string) =>
  Schema.optionalToRequired(
    Schema.UndefinedOr(schema).annotations({ message: () => ({ message: reason, override: true }) }),
    Schema.typeSchema(schema),
    {
      decode: (given) => Option.getOrElse(Option.flatMapNullable(given, identity), defaultValue),
      encode: Option.some
    }
  )

const positive = "must be a whole number, and greater than 0"
const PositiveInt = Schema.Int.pipe(Schema.positive()).annotations({
  message: () => ({ message: positive, override: true })
})

const nonNegative = "must be a whole number, and not negative"
const NonNegativeInt = Schema.Int.pipe(Schema.nonNegative()).annotations({
  message: () => ({ message: nonNegative, override: true })
})

/**
 * How a job is stopped. Its whole process group gets `signal`, and SIGKILL when `gracePeriod` is over. What is absent
 * comes from `JobConfig.stop` (SIGTERM, 5 seconds).
 *
 * @since 0.1.0
 * @category models
 */
export const StopPolicy = Schema.Struct({
  signal: Schema.optionalWith(
    Signal.annotations({
      message: () => ({ message: "must be the name of a signal, such as \"SIGTERM\"", override: true })
    }),
    { exact: true }
  ),
  gracePeriod: Schema.optionalWith(Time, { exact: true })
}).annotations({ message: () => "must be an object" })

/**
 * How a job is stopped.
 *
 * @since 0.1.0
 * @category models
 */
export type StopPolicy = typeof StopPolicy.Type

/**
 * Limits on the resources of each process of a job, set before the program runs; see `setrlimit(2)`.
 *
 * - `cpuTime`: in whole seconds, rounded up, at least 1. The process gets SIGXCPU then, and SIGKILL a second later.
 * - `memory`: address space, in bytes, rounded up to a multiple of 1024. Node needs about 1 GiB.
 * - `openFiles`: one more than the highest descriptor. Most programs need at least 4 to start.
 * - `fileSize`: bytes of any file that is written, rounded up to a multiple of 512. A write beyond it brings SIGXFSZ.
 * - `processes`: all processes of the user, not of the job alone. The kernel does not count those of root.
 * - `coreSize`: bytes of a core dump, rounded up to a multiple of 512.
 * - `niceness`: from -20 (most favoured) to 19 (least favoured), whatever the host's is.
 *
 * A limit that cannot be set is an `InvalidJobSpec`: one that is above the host's hard limit, or that needs a privilege
 * which the host does not have.
 *
 * A program that is missing or may not be executed is a `JobStartError`, as without limits. A program that only the
 * kernel refuses, or that cannot start under its limits, shows as `Exited` with code 126 or 127, with the reason on
 * standard error, or as `Killed`.
 *
 * Where env(1) has no `-S`, as in busybox, a variable whose name is no identifier is an `InvalidJobSpec`: a shell could
 * only pass it as an argument, which all users can read.
 *
 * @since 0.1.0
 * @category models
 */
export const Limits = Schema.Struct({
  cpuTime: Schema.optionalWith(Time, { exact: true }),
  memory: Schema.optionalWith(PositiveInt, { exact: true }),
  openFiles: Schema.optionalWith(PositiveInt, { exact: true }),
  fileSize: Schema.optionalWith(NonNegativeInt, { exact: true }),
  processes: Schema.optionalWith(PositiveInt, { exact: true }),
  coreSize: Schema.optionalWith(NonNegativeInt, { exact: true }),
  niceness: Schema.optionalWith(
    Schema.Int.pipe(Schema.between(-20, 19)).annotations({
      message: () => ({ message: "must be a whole number between -20 and 19", override: true })
    }),
    { exact: true }
  )
}).annotations({ message: () => "must be an object" })

/**
 * Limits on the resources of a job.
 *
 * @since 0.1.0
 * @category models
 */
export type Limits = typeof Limits.Type

const OutputPolicy = Schema.Struct({ maxBytes: Schema.optionalWith(PositiveInt, { exact: true }) }).annotations({
  message: () => "must be an object"
})

/**
 * What to run.
 *
 * - `command`: one program, found in the `PATH` unless it has a slash. `args` (default none): its arguments.
 * - `cwd`: the working directory; default: that of the host.
 * - `env` (default none): variables to set, or with `null` to unset. `extendEnv` (default `true`): whether they extend
 *   the host's environment.
 * - `shell` (default `false`): run `command` and `args`, joined by spaces, as a line of `/bin/sh`, or of the shell that
 *   is named.
 * - `stdin` (default `"ignore"`): `/dev/null`, or a `"pipe"` that `JobCoordinator.input` writes to.
 * - `stderr` (default `"pipe"`): standard error has a pipe of its own. `"stdout"`: it shares the pipe of standard
 *   output, as with `2>&1`. Then everything is of the source `"stdout"`, in the order in which it was written.
 * - `transport` (default `"pipe"`): what carries the job's bytes. `"pipe"`: pipes, as a shell gives them, so that `>
 *   /dev/stderr` and `cat /dev/stdin` work. `"socket"`: sockets, as Node gives them, which are faster for bulk and
 *   slower for lines.
 * - `timeout`: how long the job may run before it is stopped; default: no limit.
 * - `stop`: how to stop it; see `StopPolicy`.
 * - `drainTimeout`: how long to read on if a process that has left the process group still holds a pipe; default:
 *   `JobConfig.drainTimeout`.
 * - `limits`: see `Limits`.
 * - `output.maxBytes`: how much output to keep, in bytes; default: `maxBytesPerJob` of the store, or of
 *   `JobConfig.output`.
 * - `labels` (default none): names and values by which `list` and `stopAll` find the job.
 *
 * @since 0.1.0
 * @category models
 */
export const JobSpec = Schema.Struct({
  command: NonEmptyText,
  args: withDefault(
    Schema.Array(Text).annotations({ message: () => "must be an array of strings" }),
    () => [],
    "must be an array of strings without NUL characters"
  ),
  cwd: Schema.optionalWith(NonEmptyText, { exact: true }),
  env: withDefault(Environment, () => ({}), "must be an object of variables: strings without NUL characters, or null"),
  extendEnv: withDefault(
    Schema.Boolean.annotations({ message: () => "must be true or false" }),
    () => true,
    "must be true or false"
  ),
  shell: withDefault(
    Schema.Union(Schema.Boolean, NonEmptyText).annotations({
      message: () => ({ message: "must be true, false, or the path of a shell", override: true })
    }),
    () => false,
    "must be true, false, or the path of a shell"
  ),
  stdin: withDefault(
    Schema.Literal("ignore", "pipe").annotations({
      message: () => ({ message: "must be \"ignore\" or \"pipe\"", override: true })
    }),
    () => "ignore" as const,
    "must be \"ignore\" or \"pipe\""
  ),
  stderr: Schema.optionalWith(
    Schema.Literal("pipe", "stdout").annotations({
      message: () => ({ message: "must be \"pipe\" or \"stdout\"", override: true })
    }),
    { exact: true }
  ),
  transport: Schema.optionalWith(
    Schema.Literal("pipe", "socket").annotations({
      message: () => ({ message: "must be \"pipe\" or \"socket\"", override: true })
    }),
    { exact: true }
  ),
  timeout: Schema.optionalWith(Time, { exact: true }),
  stop: Schema.optionalWith(StopPolicy, { exact: true }),
  drainTimeout: Schema.optionalWith(Time, { exact: true }),
  limits: Schema.optionalWith(Limits, { exact: true }),
  output: Schema.optionalWith(OutputPolicy, { exact: true }),
  labels: withDefault(
    Schema.Record({ key: Key, value: AnyText }).annotations({ message: () => "must be an object" }),
    () => ({}),
    "must be an object of strings"
  )
})

/**
 * What to run; see the schema for its fields.
 *
 * @since 0.1.0
 * @category models
 */
export interface JobSpec extends Schema.Schema.Type<typeof JobSpec> {}

/**
 * What `make` takes: the fields of a `JobSpec`, of which only `command` is required. Times are written in any way that
 * Effect knows.
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
  readonly stderr?: "pipe" | "stdout" | undefined
  readonly transport?: "pipe" | "socket" | undefined
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
 * A spec with its defaults filled in. `make` never throws: what is invalid stays in place, and `start` fails with
 * `InvalidJobSpec`.
 *
 * @example
 * import { JobSpec } from "effect-joblib"
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
  if (!isObject(options)) return options
  const { args = [], env = {}, extendEnv = true, labels = {}, shell = false, stdin = "ignore", ...rest } = options
  return withoutUndefined({
    ...rest,
    args,
    env,
    extendEnv,
    shell,
    stdin,
    labels,
    timeout: toDuration(rest.timeout),
    drainTimeout: toDuration(rest.drainTimeout),
    stop: isObject(rest.stop)
      ? withoutUndefined({ ...rest.stop, gracePeriod: toDuration(rest.stop.gracePeriod) })
      : rest.stop,
    limits: isObject(rest.limits)
      ? withoutUndefined({ ...rest.limits, cpuTime: toDuration(rest.limits.cpuTime) })
      : rest.limits,
    output: isObject(rest.output) ? withoutUndefined(rest.output) : rest.output
  }) as JobSpec
}

const isObject = (u: unknown): u is object => typeof u === "object" && u !== null && !Array.isArray(u)

const withoutUndefined = (options: object): object =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))

/** The duration, or what was given if it is none. */
const toDuration = (input: unknown): unknown => Option.getOrElse(Durations.decode(input), () => input)

/** In a name of a variable that has a "=", the value begins there. */
const withoutValue = (field: string): string => field.replace(/=[^]*/, "=…")

/** Schema ends what it expects with what it found. */
const withoutActual = (message: string): string => message.replace(/, actual [^]*/, "")

const validateSpec = Schema.validateEither(JobSpec)

/**
 * The spec, if all its fields are valid. Otherwise an error that names the first field that is not, such as `args.0` or
 * `stop.signal`. The error holds no value, because values may be secret.
 *
 * @since 0.1.0
 * @category combinators
 */
export const validate = (spec: JobSpec): Either.Either<JobSpec, InvalidJobSpec> =>
  Either.mapLeft(check(spec), ({ path, reason }) => new InvalidJobSpec({ field: path.join(".") || "spec", reason }))

const check = (spec: JobSpec) =>
  Either.mapLeft(validateSpec(spec), (error) => {
    const [issue] = ParseResult.ArrayFormatter.formatErrorSync(error)
    return issue === undefined || issue.path.length === 0
      ? { path: [], reason: "must be an object with a command" }
      : { path: issue.path.map(String).map(withoutValue), reason: withoutActual(issue.message) }
  })

/**
 * A spec as people write it in JSON. Only `command` is required. A time is a number of milliseconds, or a text such as
 * `"30 seconds"`, `"1h30m"`, `"500ms"` or `"Infinity"`. An unknown field is an error that names the field. Messages
 * never show the value of a field, because it may be secret.
 *
 * @example
 * import { Schema } from "effect"
 * import { JobSpec } from "effect-joblib"
 * import { deepEqual } from "node:assert"
 *
 * const text = `{ "command": "npm", "args": ["test"], "timeout": "10 minutes", "stop": { "gracePeriod": 500 } }`
 * const spec = Schema.decodeSync(Schema.parseJson(JobSpec.FromJson))(text)
 * deepEqual(spec, JobSpec.make({ command: "npm", args: ["test"], timeout: "10 minutes", stop: { gracePeriod: 500 } }))
 *
 * @since 0.2.0
 * @category models
 */
export const FromJson: Schema.Schema<JobSpec, object> = Schema.transformOrFail(
  Schema.declare(isObject, { message: () => "must be an object with a command" }),
  Schema.typeSchema(JobSpec),
  {
    strict: true,
    decode: (written, _, ast) => {
      const fail = (path: ReadonlyArray<string>, reason: string) =>
        ParseResult.fail(path.reduceRight<ParseResult.ParseIssue>(
          (issue, field) => new ParseResult.Pointer(field, written, issue),
          new ParseResult.Type(ast, written, reason)
        ))
      const unknown = unknownField(written, fieldsOf)
      if (unknown !== undefined) return fail(unknown, "there is no such field")
      return Either.match(check(make(mapTimes(written, parseTime) as Options)), {
        onLeft: ({ path, reason }) => fail(path, reason),
        onRight: ParseResult.succeed
      })
    },
    encode: (spec) => ParseResult.succeed(mapTimes(spec, (time) => Duration.isDuration(time) ? writeTime(time) : time))
  }
).annotations({ identifier: "JobSpec" })

/** The fields of a spec, and of those that have fields themselves. */
const fieldsOf = {
  ...JobSpec.fields,
  stop: StopPolicy.fields,
  limits: Limits.fields,
  output: OutputPolicy.fields
}

const unknownField = (written: object, fields: object): ReadonlyArray<string> | undefined => {
  for (const [name, value] of Object.entries(written)) {
    if (!Object.hasOwn(fields, name)) return [name]
    if ((name === "stop" || name === "limits" || name === "output") && isObject(value)) {
      const inner = unknownField(value, fieldsOf[name])
      if (inner !== undefined) return [name, ...inner]
    }
  }
  return undefined
}

const mapTimes = (fields: object, f: (time: unknown) => unknown): object =>
  Object.fromEntries(
    Object.entries(fields).map(([name, value]) => {
      if (["timeout", "drainTimeout", "gracePeriod", "cpuTime"].includes(name)) return [name, f(value)]
      return [name, (name === "stop" || name === "limits") && isObject(value) ? mapTimes(value, f) : value]
    })
  )

const timeUnits: Readonly<Record<string, Duration.Unit>> = {
  ms: "millis",
  s: "seconds",
  m: "minutes",
  h: "hours",
  d: "days"
}

/** `1h30m`, `1.5h`, `500 ms`, `Infinity`. What else there is, `make` knows. */
const parseTime = (written: unknown): unknown => {
  if (written === "Infinity") return Duration.infinity
  if (typeof written !== "string" || !/^(\d+(\.\d+)?\s*(ms|[smhd])\s*)+$/.test(written)) return written
  return Array.from(written.matchAll(/([\d.]+)\s*([a-z]+)/g)).reduce<unknown>(
    (sum, [, amount, unit = ""]) =>
      Option.getOrElse(
        Option.zipWith(
          Duration.decodeUnknown(sum),
          Duration.decodeUnknown(`${amount} ${timeUnits[unit]}`),
          Duration.sum
        ),
        () => written
      ),
    Duration.zero
  )
}

const writeTime = ({ value }: Duration.Duration): number | string =>
  value._tag === "Millis" ? value.millis : value._tag === "Nanos" ? `${value.nanos} nanos` : "Infinity"

/**
 * The spec of an `@effect/platform` `Command`. Its standard input becomes `"ignore"`: a `Command` says `"pipe"` by
 * default, and a program that reads a pipe which nobody closes never ends. What a job cannot take over from a `Command`
 * is an `InvalidJobSpec` that says what to do instead: a pipeline, a stream as input other than `Stream.empty`, a user
 * id, `inherit` or a sink as output.
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
  if (command.stdin !== "pipe" && command.stdin !== Stream.empty) {
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
    // A platform before 0.97.2 does not say.
    extendEnv: command.extendEnv ?? true,
    shell: command.shell
  }))
}

/**
 * The spec as an `@effect/platform` `Command`. A `Command` has no place for times, limits and labels. It has none for a
 * variable that is unset either: if there is one, the command gets the whole `environment`, which extends `hostEnv`
 * (default: that of this process).
 *
 * @since 0.1.0
 * @category combinators
 */
export const toCommand = (
  spec: JobSpec,
  hostEnv: Readonly<Record<string, string | undefined>> = globalThis.process?.env ?? {}
): Command.Command =>
  // More arguments than a call can take are still fewer than a program can take, and `Command.env` of a platform before
  // 0.97.2 takes no options.
  Object.assign(Command.make(spec.command), {
    args: spec.args,
    env: HashMap.fromIterable(Object.entries(environment(spec, unsets(spec) ? hostEnv : {}))),
    extendEnv: spec.extendEnv && !unsets(spec)
  }).pipe(
    Command.runInShell(spec.shell),
    Command.stdin(spec.stdin === "pipe" ? "pipe" : Stream.empty),
    spec.cwd === undefined ? identity : Command.workingDirectory(spec.cwd)
  )

const unsets = (spec: JobSpec): boolean => Object.values(spec.env).includes(null)

/**
 * The environment in which the program runs, if that of the host is `hostEnv`.
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
    // A loop over `process.env` itself would ask it twice for each name.
    for (const name of Object.keys(hostEnv)) {
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
