/**
 * What the process of a job does to itself before it becomes the program.
 *
 * It begins as `/bin/sh` with a channel to the host as descriptor 3. There it waits for the host's word, takes its steps,
 * tells which one failed, if any, and closes the channel. Then `env` undoes what a shell does to an environment, and
 * becomes the program. It is the same process throughout.
 */
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn as spawnChild, type SpawnOptions } from "node:child_process"
import type { Socket } from "node:net"
import type { InvalidJobSpec, JobStartError } from "../JobError.ts"
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

export interface Options extends SpawnOptions {
  readonly cwd: string | undefined
  readonly env: Record<string, string>
  readonly stdio: ["ignore" | "pipe", "pipe", "pipe"]
}

/** Starts the process. Throws what Node would, did it start the program itself. */
export const spawn = (
  steps: ReadonlyArray<Step>,
  program: readonly [file: string, ...args: ReadonlyArray<string>],
  options: Options
): ChildProcess => {
  Program.check(program[0], options.cwd, options.env)
  const variables = Object.entries(options.env)
  const delicate = variables.filter(isDelicate)
  const args = ["-c", script(steps), "sh", ...delicate.map(([name, value]) => `${name}=${value}`), ...program]
  return spawnChild("/bin/sh", args, {
    ...options,
    env: Object.fromEntries(variables.filter((variable) => !isDelicate(variable))),
    stdio: [...options.stdio, "pipe"]
  })
}

/**
 * Whether a shell may change, set or drop a variable of this name. These few are passed as arguments; all the others
 * are not, since anybody may read the arguments of a process.
 */
const isDelicate = ([name]: readonly [string, string]): boolean =>
  !/^[A-Za-z_]\w*$/.test(name) || namesOfShells.has(name)

const namesOfShells = new Set([
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

const script = (steps: ReadonlyArray<Step>): string =>
  [
    "{ read -r word <&3 || exit",
    ...steps.flatMap(({ command }, index) =>
      command === undefined ? [] : `${command} || { echo ${index} >&3; exit 1; }`
    ),
    "} 2>/dev/null",
    "exec 3>&-",
    ...steps.flatMap(({ last }) => last ?? []),
    "exec /usr/bin/env -u _ -u OLDPWD -u PWD -u SHLVL -- \"$@\""
  ].join("\n")

/**
 * Lets the process go on, in the turn of its spawn. The effect waits until it has taken its steps; if one failed, the
 * process ends by itself.
 */
export const begin = (
  steps: ReadonlyArray<Step>,
  child: ChildProcess,
  pid: number
): Effect.Effect<void, InvalidJobSpec | JobStartError> => {
  const channel = child.stdio[3] as Socket
  let failed = ""
  channel.on("data", (index) => failed += index)
  channel.on("error", ignore)
  const refused = steps.find((step) => !succeeds(step, pid))
  if (refused === undefined) channel.end("go\n")
  else channel.destroy()

  return Effect.flatMap(closed(channel), () => {
    const step = refused ?? (failed === "" ? undefined : steps[Number(failed)])
    return step === undefined ? Effect.void : Effect.fail(step.failure())
  })
}

const ignore = () => {}

const succeeds = (step: Step, pid: number): boolean => {
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
