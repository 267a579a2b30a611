import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as JobId from "../src/JobId.ts"
import { assertBecomesJsonAndBack } from "./json.ts"

const isJobId = Schema.is(JobId.JobId)

describe("JobId", () => {
  it("becomes JSON and back", () => assertBecomesJsonAndBack(JobId.JobId))

  it("is a new UUID of version 4 each time", () => {
    const ids = Array.from({ length: 10_000 }, JobId.make)
    assert.isTrue(ids.every(isJobId))
    assert.strictEqual(new Set(ids).size, ids.length)
  })

  it("is not any other text", () => {
    const id = JobId.make()
    const ofVersion1 = `${id.slice(0, 14)}1${id.slice(15)}`
    for (const text of ["", "42", id.slice(1), ` ${id}`, `${id}\n`, ofVersion1, `${id},${id}`]) {
      assert.isFalse(isJobId(text), text)
    }
  })
})
