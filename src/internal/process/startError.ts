/**
 * Why the operating system did not start a program, by the code that it answered with.
 *
 * Nothing of arguments, environment or a shell's line is in the error: what Node and executors say holds all of that.
 */
import { isPlatformError } from "@effect/platform/Error"
import { JobStartError, type JobStartReason } from "../../JobError.ts"
import type { JobSpec } from "../../JobSpec.ts"
import { fileOf, nameOf } from "./programName.ts"

/** Where a program would be started, to tell what was wrong there. */
export interface Surroundings {
  /** Whether a directory can be the working directory. */
  readonly canEnter: (directory: string) => boolean
  /** What a program that is there takes to run, and is not there, such as a script's interpreter. */
  readonly lacking: (spec: JobSpec) => string | undefined
}

/** From an error of Node. */
export const fromErrno = (spec: JobSpec, cause: unknown, { canEnter, lacking }: Surroundings): JobStartError => {
  const reason = reasonOf(cause)
  // The directory is entered before the program is looked for, and either may be refused with the same code.
  const isAmbiguous = reason !== "ArgumentListTooLong" && reason !== "ResourceExhausted"
  if (isAmbiguous && spec.cwd !== undefined && !canEnter(spec.cwd)) {
    return make(spec, "InvalidDirectory", cause, spec.cwd)
  }
  return make(spec, reason, cause, reason === "NotFound" ? otherProgram(spec, cause) ?? lacking(spec) : undefined)
}

/** From whatever an executor of `@effect/platform` failed with, or died of. */
export const fromPlatform = (spec: JobSpec, cause: unknown): JobStartError => {
  // An executor looks whether the directory is there, but not whether it is one.
  const inDirectory = isPlatformError(cause) && cause.module === "FileSystem" ||
    spec.cwd !== undefined && codeOf(cause) === "ENOTDIR"
  return inDirectory ? make(spec, "InvalidDirectory", cause, spec.cwd) : make(spec, reasonOf(cause), cause)
}

const make = (spec: JobSpec, reason: JobStartReason, cause: unknown, path?: string) =>
  new JobStartError({
    reason,
    command: nameOf(spec),
    cause: withoutArguments(cause),
    ...(path === undefined ? {} : { path })
  })

/** The program that was started in the place of the job's own, to become it later. */
const otherProgram = (spec: JobSpec, cause: unknown): string | undefined => {
  const path = fieldOf(cause, "path")
  return path !== undefined && syscallOf(cause) === "spawn" && path !== fileOf(spec) ? path : undefined
}

const withoutArguments = (cause: unknown): Error => {
  const code = codeOf(cause)
  const syscall = syscallOf(cause)
  const said = isPlatformError(cause) && cause._tag === "SystemError" ? cause.reason : "no reason given"
  return Object.assign(
    new Error([syscall, code].filter((word) => word !== undefined).join(" ") || said),
    code === undefined ? {} : { code },
    syscall === undefined ? {} : { syscall }
  )
}

export const reasonOf = (cause: unknown): JobStartReason => {
  switch (codeOf(cause)) {
    case "ENOENT":
    case "ENOTDIR":
    case "ENAMETOOLONG":
    case "ELOOP":
      return "NotFound"
    case "EACCES":
    case "EPERM":
      return "PermissionDenied"
    case "E2BIG":
      return "ArgumentListTooLong"
    case "EMFILE":
    case "ENFILE":
    case "EAGAIN":
    case "ENOMEM":
      return "ResourceExhausted"
    default:
      return reasonOfPlatform(cause)
  }
}

/** For platforms whose errors carry no code. */
const reasonOfPlatform = (cause: unknown): JobStartReason =>
  isPlatformError(cause) && cause._tag === "SystemError" &&
    (cause.reason === "NotFound" || cause.reason === "PermissionDenied")
    ? cause.reason
    : "Unknown"

/** The code of an error, or of the error that it wraps. A code is one word. */
const codeOf = (error: unknown): string | undefined => wordOf(fieldOf(error, "code"))

/** Node's is followed by the program. */
const syscallOf = (error: unknown): string | undefined => wordOf(fieldOf(error, "syscall"))

const wordOf = (text: string | undefined): string | undefined => text === undefined ? undefined : /^\w+/.exec(text)?.[0]

const fieldOf = (error: unknown, name: "code" | "syscall" | "path"): string | undefined => {
  if (typeof error !== "object" || error === null) return undefined
  const value = (error as Record<string, unknown>)[name]
  if (typeof value === "string") return value
  return "cause" in error ? fieldOf(error.cause, name) : undefined
}
