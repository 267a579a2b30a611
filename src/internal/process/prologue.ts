/**
 * What the process of a job does to itself before it becomes the program.
 *
 * It begins as `/bin/sh` with a channel to the host as descriptor 3. There it waits for the host's word, and tells of each
 * step that it has taken. The channel closes when the shell leaves, because a step failed, or when it becomes `env`, which
 * undoes what a shell does to an environment, and becomes the program. It is the same process throughout.
 */
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn as spawnChild, type SpawnOptions } from "node:child_process"
import type { Socket } from "node:net"
import type { InvalidJobSpec, JobStartError } from "../../JobError.ts"
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

/** Starts the process. Throws what Node would, did it start the program itself. */
export const spawn = (
  steps: ReadonlyArray<Step>,
  program: readonly [file: string, ...args: ReadonlyArray<string>],
  options: Options
): ChildProcess => {
  const { cwd, env } = options
  Program.check(program[0], cwd, env)
  const variables = Object.entries(env)
  const args = [
    ...addedByShells.filter((name) => env[name] === undefined).flatMap((name) => ["-u", name]),
    "--",
    ...variables.filter(isDelicate).map(([name, value]) => `${name}=${value}`),
    ...program
  ]
  return spawnChild("/bin/sh", ["-c", script(steps), "sh", ...args], {
    ...options,
    env: Object.fromEntries(variables.filter((variable) => !isDelicate(variable))),
    stdio: [...options.stdio, "pipe"]
  })
}

const addedByShells = ["_", "OLDPWD", "PATH", "PWD", "SHLVL"]

/**
 * Whether a shell may change, set or drop a variable of this name. These few are passed as arguments; all the others
 * are not, since anybody may read the arguments of a process.
 */
const isDelicate = ([name]: readonly [string, string]): boolean =>
  !/^[A-Za-z_]\w*$/.test(name) || alteredByShells.has(name)

const alteredByShells = new Set([
  "_",
  "BASHOPTS",
  "BASHPID",
  "EUID",
  "IFS",
  "LINENO",
  "OLDPWD",
  "OPTIND",
  "PPID",
  "PWD",
  "RANDOM",
  "SECONDS",
  "SHELLOPTS",
  "SHLVL",
  "UID"
])

/** A shell puts the descriptor of a redirection aside, to restore it, where it closes in the very moment of the `exec`. */
const script = (steps: ReadonlyArray<Step>): string =>
  [
    "{ read -r word <&3 || exit",
    ...steps.map(({ command = ":" }) => `${command} || exit; echo >&3`),
    "} 2>/dev/null",
    "{ :",
    ...steps.flatMap(({ last }) => last ?? []),
    "exec /usr/bin/env \"$@\"",
    "} 3>&-"
  ].join("\n")

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
    const failed = refused ?? steps[taken]
    return failed === undefined ? Effect.void : Effect.fail(failed.failure())
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
