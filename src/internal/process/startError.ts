/**
 * Why the operating system did not start a program, by the code that it answered with.
 */
import { isPlatformError } from "@effect/platform/Error"
import { JobStartError, type JobStartReason } from "../../JobError.ts"
import type { JobSpec } from "../../JobSpec.ts"

/** From an error of Node. `canEnter` tells whether a directory can be the working directory. */
export const fromErrno = (spec: JobSpec, cause: unknown, canEnter: (directory: string) => boolean): JobStartError => {
  const reason = reasonOf(cause)
  // The directory is entered before the program is looked for, and either may be refused with the same code.
  const isAmbiguous = reason !== "ArgumentListTooLong" && reason !== "ResourceExhausted"
  return make(spec, isAmbiguous && spec.cwd !== undefined && !canEnter(spec.cwd) ? "InvalidDirectory" : reason, cause)
}

/** From whatever an executor of `@effect/platform` failed with, or died of. */
export const fromPlatform = (spec: JobSpec, cause: unknown): JobStartError => {
  // An executor looks whether the directory is there, but not whether it is one.
  const inDirectory = isPlatformError(cause) && cause.module === "FileSystem" ||
    spec.cwd !== undefined && codeOf(cause) === "ENOTDIR"
  return make(spec, inDirectory ? "InvalidDirectory" : reasonOf(cause), cause)
}

const make = (spec: JobSpec, reason: JobStartReason, cause: unknown) =>
  new JobStartError({ reason, command: spec.command, cause })

const reasonOf = (cause: unknown): JobStartReason => {
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

/** The code of an error, or of the error that it wraps. */
const codeOf = (error: unknown): string | undefined => {
  if (typeof error !== "object" || error === null) return undefined
  if ("code" in error && typeof error.code === "string") return error.code
  return "cause" in error ? codeOf(error.cause) : undefined
}
