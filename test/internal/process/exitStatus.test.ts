import { expect, it } from "@effect/vitest"
import * as ExitStatus from "../../../src/internal/process/exitStatus.ts"
import { Exited, Killed } from "../../../src/JobStatus.ts"

it("is an exit, or a signal, which is UNKNOWN if only another system has it", () => {
  expect(ExitStatus.fromNode(3, null)).toEqual(new Exited({ code: 3 }))
  expect(ExitStatus.fromNode(null, "SIGSTKFLT")).toEqual(new Killed({ signal: "SIGSTKFLT" }))
  expect(ExitStatus.fromNode(null, "SIGINFO")).toEqual(new Killed({ signal: "UNKNOWN" }))
})
