/**
 * Finding a program as `execvp(3)` does: where another program will do that later and could only say so by its exit code,
 * and to say what was wrong.
 */
import * as Fs from "node:fs"
import * as JobSpec from "../../JobSpec.ts"
import { fileOf } from "./programName.ts"
import type { Surroundings } from "./startError.ts"

export type Program = readonly [file: string, ...args: ReadonlyArray<string>]

export const of = (spec: JobSpec.JobSpec): Program => {
  const { args, command, shell } = spec
  return shell === false ? [command, ...args] : [fileOf(spec), "-c", [command, ...args].join(" ")]
}

/** Throws what Node would, did it start this file in this directory with this environment. */
export const check = (
  file: string,
  directory: string | undefined,
  env: Readonly<Record<string, string | undefined>>
): void => {
  const errors: Array<unknown> = []
  for (const path of candidates(file, directory, env)) {
    try {
      return checkFile(path)
    } catch (error) {
      errors.push(error)
    }
  }
  throw errors.find((error) => codeOf(error) === "EACCES") ?? errors[0]
}

const candidates = (
  file: string,
  directory: string | undefined,
  env: Readonly<Record<string, string | undefined>>
): ReadonlyArray<string> =>
  (file.includes("/")
    ? [file]
    : (env["PATH"] ?? "/bin:/usr/bin").split(":").map((directory) => `${directory === "" ? "." : directory}/${file}`))
    .map((path) => path.startsWith("/") ? path : `${directory ?? "."}/${path}`)

const checkFile = (path: string) => {
  Fs.accessSync(path, Fs.constants.X_OK)
  if (!Fs.statSync(path).isFile()) throw Object.assign(new Error("EACCES: not a file"), { code: "EACCES" })
}

const codeOf = (error: unknown): unknown => error instanceof Error && "code" in error ? error.code : undefined

export const surroundings: Surroundings = {
  canEnter: (directory) => {
    try {
      Fs.accessSync(directory, Fs.constants.X_OK)
      return Fs.statSync(directory).isDirectory()
    } catch {
      return false
    }
  },
  lacking: (spec) => {
    for (const path of candidates(fileOf(spec), spec.cwd, JobSpec.environment(spec, process.env))) {
      const interpreter = interpreterOf(path)
      if (interpreter !== undefined && !Fs.existsSync(interpreter)) return interpreter
    }
    return undefined
  }
}

/** What the kernel runs in the place of a script, or first of all for a program that is linked dynamically. */
const interpreterOf = (path: string): string | undefined => {
  try {
    const head = readHead(path)
    const [, interpreter] = /^#![ \t]*([^ \t\n\0]+)/.exec(head) ??
      /^\x7fELF[^]*?\0(\/[^\0/]+\/[^\0]*ld[^\0/]*)\0/.exec(head) ?? []
    return interpreter
  } catch {
    return undefined
  }
}

const readHead = (path: string): string => {
  const descriptor = Fs.openSync(path, Fs.constants.O_RDONLY | Fs.constants.O_NONBLOCK)
  try {
    const head = Buffer.alloc(4096)
    return head.toString("latin1", 0, Fs.readSync(descriptor, head))
  } finally {
    Fs.closeSync(descriptor)
  }
}
