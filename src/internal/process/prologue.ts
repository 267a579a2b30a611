/**
 * What the process of a job does to itself before it becomes the program.
 *
 * It begins as `/bin/sh` with a channel to the host as descriptor 3. There it waits for the host's word, and tells of each
 * step that it has taken. The channel closes when the shell leaves, because a step failed, or when it becomes `env`, which
 * becomes the program. It is the same process throughout.
 *
 * A shell changes, sets and drops variables, each shell others; and the arguments of a process are shown to anybody. So
 * the shell gets the environment under names that mean nothing to it, and `env` gives each variable its own name back,
 * from its own environment: `-S` replaces `${NAME}` after the arguments have been handed over. Where there is no such
 * `env`, the shell itself does that, as far as a shell can.
 */
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn as spawnChild, type SpawnOptions, spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import type { Socket } from "node:net"
import { InvalidJobSpec, type JobStartError } from "../../JobError.ts"
import * as Program from "./program.ts"

export interface Step {
  /** A command of POSIX sh, which fails if the step does. */
  readonly command?: string
  /** What the host does to the process while it waits; it throws if the step fails. */
  readonly apply?: (pid: number) => void
  /** A command that cannot fail, but would be in the way of the shell if it came any earlier. */
  readonly last?: string
  readonly failure: () => InvalidJobSpec | JobStartError
}

export interface Options extends Omit<SpawnOptions, "stdio"> {
  readonly cwd: string | undefined
  readonly env: Record<string, string>
  readonly stdio: ReadonlyArray<"ignore" | "pipe" | number>
}

/** What it is made of, besides the program. */
export interface Tools {
  readonly shell: string
  readonly env: string
}

const standard: Tools = { shell: "/bin/sh", env: "/usr/bin/env" }

/** Starts the process. Throws what Node would, did it start the program itself. */
export const spawn = (
  steps: ReadonlyArray<Step>,
  program: Program.Program,
  options: Options,
  tools = standard
): ChildProcess => {
  Program.check(program[0], options.cwd, options.env)
  const prefix = unusedPrefix(Object.keys(options.env))
  const variables = Object.entries(options.env).map(([name, value], index): Variable => ({
    name,
    value,
    // The guardian looks for its mark by name.
    alias: name.startsWith("JOBLIB_") && isIdentifier(name) ? name : `${prefix}${index}`
  }))
  const { args, exports } = canSplit(tools.env) ? bySplitting(variables) : byExporting(variables)
  return spawnChild(tools.shell, [
    "-c",
    script(tools.env, [...steps, { command: exports }]),
    "sh",
    ...args,
    ...canBeNamedToEnv(program[0]) ? [] : [nice(), "-n", "0"],
    ...program
  ], {
    ...options,
    env: Object.fromEntries(variables.map(({ alias, value }) => [alias, value])),
    stdio: [...options.stdio, "pipe"]
  })
}

interface Variable {
  readonly name: string
  readonly value: string
  /** The name by which it passes through the shell. */
  readonly alias: string
}

const unusedPrefix = (names: ReadonlyArray<string>, prefix = "V"): string =>
  names.some((name) => name.startsWith(prefix)) ? unusedPrefix(names, `${prefix}_`) : prefix

const isIdentifier = (name: string): boolean => /^[A-Za-z_]\w*$/.test(name)

/** `env` takes an argument with a "=" for a variable, and a "-" for an option; `nice`, which changes nothing so, does not. */
const canBeNamedToEnv = (file: string): boolean => file !== "-" && !file.includes("=")

const nice = (): string => Fs.existsSync("/usr/bin/nice") ? "/usr/bin/nice" : "/bin/nice"

/** The arguments of `env`, and what the shell does before. */
interface Renaming {
  readonly args: ReadonlyArray<string>
  readonly exports: string
}

const bySplitting = (variables: ReadonlyArray<Variable>): Renaming => ({
  args: variables.length === 0
    ? ["-i", "--"]
    : ["-i", "-S", `-- ${variables.map(({ alias, name }) => `${quote(`${name}=`)}\${${alias}}`).join(" ")}`],
  exports: ":"
})

const byExporting = (variables: ReadonlyArray<Variable>): Renaming => ({
  args: [
    ...addedByShells.filter((name) => variables.every((variable) => variable.name !== name)).flatMap((
      name
    ) => ["-u", name]),
    "--"
  ],
  exports:
    variables.filter(({ alias, name }) => alias !== name).map(({ alias, name }) =>
      isIdentifier(name) ? `command export ${name}="$${alias}" && unset ${alias}` : "false"
    ).join(" && ") || ":"
})

const addedByShells = ["_", "OLDPWD", "PATH", "PWD", "SHLVL"]

const quote = (text: string) => `'${text.replace(/['\\]/g, "\\$&")}'`

/** Whether this `env` gives variables new names as it must; asked once. */
const canSplit = (env: string): boolean => {
  const known = splits.get(env)
  if (known !== undefined) return known
  const { error, stdout } = spawnSync(env, bySplitting(trial).args.concat(env), {
    env: Object.fromEntries(trial.map(({ alias, value }) => [alias, value])),
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"]
  })
  if (error !== undefined && !("code" in error && error.code === "ENOENT")) throw error
  const does = stdout === trial.map(({ name, value }) => `${name}=${value}\n`).join("")
  splits.set(env, does)
  return does
}

const splits = new Map<string, boolean>()

const trial: ReadonlyArray<Variable> = [
  { name: "a-'\\b", value: " '\"\\$x#", alias: "V0" },
  { name: "C", value: "", alias: "V1" }
]

/** A shell puts the descriptor of a redirection aside, to restore it, where it closes in the very moment of the `exec`. */
const script = (env: string, steps: ReadonlyArray<Omit<Step, "failure">>): string =>
  [
    "{ read -r word <&3 || exit",
    ...steps.map(({ command = ":" }) => `${command} || exit; echo >&3`),
    "} 2>/dev/null",
    "{ :",
    ...steps.flatMap(({ last }) => last ?? []),
    `exec ${env} "$@"`,
    "} 3>&-"
  ].join("\n")

/** The last step of all. */
const environment = () =>
  new InvalidJobSpec({
    field: "env",
    reason: "has a variable that no shell can set where there are limits or cgroups, and env(1) has no -S here"
  })

/** Lets the process go on, in the turn of its spawn. The effect waits until it has taken all steps, or has left. */
export const begin = (
  steps: ReadonlyArray<Step>,
  child: ChildProcess,
  pid: number
): Effect.Effect<void, InvalidJobSpec | JobStartError> => {
  const channel = child.stdio[3] as Socket
  let taken = 0
  channel.on("data", (lines) => taken += lines.length)
  channel.on("error", ignore)
  const refused = steps.find((step) => !applies(step, pid))
  if (refused === undefined) channel.end("go\n")
  else channel.destroy()

  return Effect.flatMap(closed(channel), () => {
    const failure = refused?.failure ?? [...steps.map((step) => step.failure), environment][taken]
    return failure === undefined ? Effect.void : Effect.fail(failure())
  })
}

const ignore = () => {}

const applies = (step: Step, pid: number): boolean => {
  try {
    step.apply?.(pid)
    return true
  } catch {
    return false
  }
}

const closed = (channel: Socket): Effect.Effect<void> =>
  Effect.async((resume) => {
    const done = () => resume(Effect.void)
    if (channel.closed) return done()
    channel.once("close", done)
    return Effect.sync(() => channel.off("close", done))
  })
