/**
 * Why the operating system did not start a program, by the code that it answered with.
 */
import * as Fs from "node:fs"
import { JobStartError, type JobStartReason } from "../JobError.ts"
import type { JobSpec } from "../JobSpec.ts"

export const fromErrno = (spec: JobSpec, cause: unknown): JobStartError =>
  new JobStartError({ reason: reasonOf(spec, errnoOf(cause)), command: spec.command, cause })

const errnoOf = (cause: unknown): string =>
  typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : ""

const reasonOf = (spec: JobSpec, code: string): JobStartReason => {
  switch (code) {
    case "E2BIG":
      return "ArgumentListTooLong"
    case "EMFILE":
    case "ENFILE":
    case "EAGAIN":
    case "ENOMEM":
      return "ResourceExhausted"
  }
  // The same codes come from entering the directory, which is tried first, and from the program.
  if (spec.cwd !== undefined && !canEnter(spec.cwd)) return "InvalidDirectory"
  switch (code) {
    case "ENOENT":
    case "ENOTDIR":
    case "ENAMETOOLONG":
    case "ELOOP":
      return "NotFound"
    case "EACCES":
    case "EPERM":
      return "PermissionDenied"
    default:
      return "Unknown"
  }
}

const canEnter = (directory: string): boolean => {
  try {
    Fs.accessSync(directory, Fs.constants.X_OK)
    return Fs.statSync(directory).isDirectory()
  } catch {
    return false
  }
}
