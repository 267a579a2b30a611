import { SystemError } from "@effect/platform/Error"
import { describe, expect, it } from "@effect/vitest"
import * as StartError from "../../../src/internal/process/startError.ts"
import type { JobStartReason } from "../../../src/JobError.ts"
import * as JobSpec from "../../../src/JobSpec.ts"

const inPlace = JobSpec.make({ command: "program" })
const elsewhere = JobSpec.make({ command: "program", cwd: "/directory" })

const errno = (code: string) => Object.assign(new Error(`spawn program ${code}`), { code })

const always = { canEnter: () => true, lacking: () => undefined }
const never = { canEnter: () => false, lacking: () => undefined }

const byCode: Record<string, JobStartReason> = {
  ENOENT: "NotFound",
  ENOTDIR: "NotFound",
  ENAMETOOLONG: "NotFound",
  ELOOP: "NotFound",
  EACCES: "PermissionDenied",
  EPERM: "PermissionDenied",
  E2BIG: "ArgumentListTooLong",
  EMFILE: "ResourceExhausted",
  ENFILE: "ResourceExhausted",
  EAGAIN: "ResourceExhausted",
  ENOMEM: "ResourceExhausted",
  ETXTBSY: "Unknown"
}

describe("fromErrno", () => {
  for (const [code, reason] of Object.entries(byCode)) {
    it(`${code} is ${reason}`, () => {
      const cause = errno(code)
      expect(StartError.fromErrno(inPlace, cause, never)).toMatchObject({
        reason,
        command: "program",
        cause: { message: code, code }
      })
      expect(StartError.fromErrno(elsewhere, cause, always).reason).toBe(reason)
    })
  }

  it("is of the directory if that cannot be entered, but for what has nothing to do with it", () => {
    for (const [code, reason] of Object.entries(byCode)) {
      expect(StartError.fromErrno(elsewhere, errno(code), never).reason)
        .toBe(reason === "ArgumentListTooLong" || reason === "ResourceExhausted" ? reason : "InvalidDirectory")
    }
  })

  it("takes anything for a cause", () => {
    for (const cause of [undefined, null, "ENOENT", 2, { code: 2 }, new Error("ENOENT")]) {
      expect(StartError.fromErrno(inPlace, cause, never).reason).toBe("Unknown")
    }
  })
})

describe("the message", () => {
  const enoent = Object.assign(errno("ENOENT"), { syscall: "spawn program", path: "program" })
  const messageOf = (spec: JobSpec.JobSpec, cause: unknown, here: StartError.Surroundings = always) =>
    StartError.fromErrno(spec, cause, here).message

  it("names the directory", () => {
    expect(messageOf(elsewhere, enoent, never)).toMatch(/its working directory "\/directory" is missing/)
    expect(StartError.fromPlatform(elsewhere, errno("ENOTDIR")).message).toContain("\"/directory\"")
  })

  it("names the shell", () => {
    const spec = JobSpec.make({ command: "echo", args: ["a"], shell: "/no/shell" })
    expect(messageOf(spec, Object.assign(errno("ENOENT"), { path: "/no/shell", syscall: "spawn /no/shell" })))
      .toMatch(/^Cannot start "\/no\/shell": there is no such program/)
  })

  it("names the interpreter of a script, or the shell that sets limits", () => {
    expect(messageOf(inPlace, enoent, { ...always, lacking: () => "/no/interpreter" }))
      .toBe("Cannot start \"program\": it takes \"/no/interpreter\" to run, which is missing (NotFound)")
    expect(messageOf(inPlace, Object.assign(errno("ENOENT"), { path: "/bin/sh", syscall: "spawn /bin/sh" })))
      .toBe("Cannot start \"program\": it takes \"/bin/sh\" to run, which is missing (NotFound)")
  })

  it("says where arguments belong, to who takes a whole line for a program", () => {
    const line = JobSpec.make({ command: "echo hello" })
    expect(messageOf(line, errno("ENOENT"))).toMatch(
      /^Cannot start "echo …": there is no such program in the PATH, or no such file; arguments belong in args, and a line for a shell takes shell: true/
    )
    // Where a directory of the PATH may not be entered, the whole line is "not permitted".
    expect(messageOf(line, errno("EACCES"))).toMatch(/^Cannot start "echo …": it may not be executed/)
    expect(messageOf(JobSpec.make({ command: "PASSWORD=secret psql" }), errno("ENOENT")))
      .toMatch(/^Cannot start "PASSWORD …": /)
    expect(messageOf(JobSpec.make({ command: "a=b" }), errno("ENOENT"))).toMatch(/^Cannot start "a=b": /)
  })
})

describe("fromPlatform", () => {
  const systemError = (options: Partial<ConstructorParameters<typeof SystemError>[0]>) =>
    new SystemError({ reason: "Unknown", module: "Command", method: "spawn", ...options })

  it("looks for the code in what the error wraps", () => {
    for (const [code, reason] of Object.entries(byCode)) {
      expect(StartError.fromPlatform(inPlace, systemError({ cause: errno(code) })).reason).toBe(reason)
      expect(StartError.fromPlatform(inPlace, errno(code)).reason).toBe(reason)
    }
  })

  it("takes the reason of an error without a code", () => {
    expect(StartError.fromPlatform(inPlace, systemError({ reason: "NotFound" })).reason).toBe("NotFound")
    expect(StartError.fromPlatform(inPlace, systemError({ reason: "PermissionDenied" })).reason).toBe(
      "PermissionDenied"
    )
    expect(StartError.fromPlatform(inPlace, systemError({ reason: "Busy" })).reason).toBe("Unknown")
  })

  it("is of the directory if that was looked for in vain, or is a file", () => {
    const missing = systemError({ module: "FileSystem", method: "access", reason: "NotFound", cause: errno("ENOENT") })
    expect(StartError.fromPlatform(elsewhere, missing).reason).toBe("InvalidDirectory")
    expect(StartError.fromPlatform(elsewhere, errno("ENOTDIR")).reason).toBe("InvalidDirectory")
  })
})
