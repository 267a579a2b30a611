import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { constants } from "node:os"
import * as JobSpec from "../src/JobSpec.ts"
import * as JobStatus from "../src/JobStatus.ts"
import { assertBecomesJsonAndBack, throughJson } from "./json.ts"

const exited = new JobStatus.Exited({ code: 3 })
const killed = new JobStatus.Killed({ signal: "SIGTERM" })

describe("JobStatus", () => {
  it("becomes JSON and back", () => {
    assertBecomesJsonAndBack(JobStatus.JobStatus)
    assertBecomesJsonAndBack(JobStatus.Ended)
  })

  it("is ended unless it is running", () => {
    assert.deepStrictEqual([JobStatus.running, exited, killed].map(JobStatus.isEnded), [false, true, true])
  })

  it("is matched by its case", () => {
    const describeStatus = (status: JobStatus.JobStatus) =>
      JobStatus.match(status, {
        Running: () => "running",
        Exited: ({ code }) => `exited ${code}`,
        Killed: ({ signal }) => `killed ${signal}`
      })
    assert.deepStrictEqual([JobStatus.running, exited, killed].map(describeStatus), [
      "running",
      "exited 3",
      "killed SIGTERM"
    ])
  })

  it("may tell of a signal that nobody knows, which cannot be sent", () => {
    const unknown = new JobStatus.Killed({ signal: "UNKNOWN" })
    assert.deepStrictEqual(throughJson(JobStatus.JobStatus, unknown), unknown)
    assert.isFalse(Schema.is(JobStatus.Signal)("UNKNOWN"))
    assert.isTrue(
      Either.isLeft(JobSpec.validate({ ...JobSpec.make({ command: "a" }), stop: { signal: "UNKNOWN" as never } }))
    )
  })

  it("is a success if it exited with code 0, and in no other way", () => {
    const statuses = [JobStatus.running, exited, killed, new JobStatus.Exited({ code: 0 })]
    assert.deepStrictEqual(statuses.map(JobStatus.isSuccess), [false, false, false, true])
  })

  it("has a text for people", () => {
    assert.deepStrictEqual([JobStatus.running, exited, killed].map(JobStatus.format), [
      "running",
      "exited with code 3",
      "killed by SIGTERM"
    ])
  })

  it("knows every signal of this system", () => {
    for (const signal of Object.keys(constants.signals)) assert.isTrue(Schema.is(JobStatus.Signal)(signal), signal)
  })
})
