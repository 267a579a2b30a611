import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as FastCheck from "effect/FastCheck"
import * as Schema from "effect/Schema"
import * as JobError from "../src/JobError.ts"
import { assertBecomesJsonAndBack, throughJson } from "./json.ts"

const errors = {
  JobNotFound: JobError.JobNotFound,
  JobAlreadyEnded: JobError.JobAlreadyEnded,
  JobStillRunning: JobError.JobStillRunning,
  InputClosed: JobError.InputClosed,
  JobStartError: JobError.JobStartError,
  InvalidJobSpec: JobError.InvalidJobSpec,
  JobLimitReached: JobError.JobLimitReached,
  SubscriberLimitReached: JobError.SubscriberLimitReached,
  OutputEvicted: JobError.OutputEvicted,
  OutputStoreError: JobError.OutputStoreError,
  OutputTooLarge: JobError.OutputTooLarge,
  EventsMissed: JobError.EventsMissed,
  CoordinatorStopped: JobError.CoordinatorStopped,
  CgroupError: JobError.CgroupError,
  JobFailed: JobError.JobFailed
}

describe.each(Object.entries(errors))("%s", (tag, schema) => {
  const error: Schema.Schema.AnyNoContext = schema

  it("becomes JSON and back", () => assertBecomesJsonAndBack(error))

  it("has its own name as tag, and a message for people", () => {
    for (const example of FastCheck.sample(Arbitrary.make(error), 20)) {
      assert.strictEqual(example._tag, tag)
      assert.match(example.message, /^[A-Z0-9].* .*/s)
      assert.notInclude(example.message, "undefined")
    }
  })
})

it("all errors of the module are among those tested", () => {
  const classes = Object.entries(JobError).filter(([, value]) => typeof value === "function" && "fields" in value)
  assert.sameMembers(classes.map(([name]) => name).filter((name) => name !== "JobStartReason"), Object.keys(errors))
})

describe("unions", () => {
  it("JobError has every error, and becomes JSON and back", () => {
    assert.sameMembers(JobError.JobError.members.map((member): unknown => member), Object.values(errors))
    assertBecomesJsonAndBack(JobError.JobError)
    assertBecomesJsonAndBack(JobError.StartError)
  })

  it("of what a job wrote, nothing comes into a message", () => {
    for (const error of FastCheck.sample(Arbitrary.make(JobError.JobFailed), 20)) {
      const spoken = new JobError.JobFailed({ ...error, stderr: "hunter2" })
      assert.notInclude(spoken.message, "hunter2")
    }
  })
})

describe("cause", () => {
  const causeThroughJson = (cause: unknown): unknown => {
    const error = new JobError.OutputStoreError({ operation: "read", cause })
    assert.isString(error.message)
    return throughJson(JobError.OutputStoreError, error).cause
  }

  it("keeps the name and the message of an Error", () => {
    const cause = causeThroughJson(new TypeError("no such thing", { cause: new Error("inner") }))
    assert.instanceOf(cause, Error)
    assert.deepInclude(cause, { name: "TypeError", message: "no such thing" })
  })

  it("becomes text if it is anything else", () => {
    assert.strictEqual(causeThroughJson("text"), "text")
    assert.strictEqual(causeThroughJson(5n), "5")
    assert.strictEqual(causeThroughJson(undefined), "undefined")
    assert.strictEqual(causeThroughJson({ code: "EIO" }), "{\"code\":\"EIO\"}")
  })

  it.prop("may be anything at all", [
    FastCheck.oneof(
      FastCheck.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true, withSet: true }),
      FastCheck.constantFrom(
        Symbol("a"),
        {
          toString: () => {
            throw new Error("no text")
          }
        },
        Object.assign(new Error("a"), { name: Symbol("b"), message: { c: 1n } })
      )
    )
  ], ([cause]) => {
    const once = causeThroughJson(cause)
    assert.deepStrictEqual(String(causeThroughJson(once)), String(once))
  })
})
