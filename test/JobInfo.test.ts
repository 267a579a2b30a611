import { describe, it } from "@effect/vitest"
import * as JobInfo from "../src/JobInfo.ts"
import { assertBecomesJsonAndBack } from "./json.ts"

describe("JobInfo", () => {
  it("becomes JSON and back", () => assertBecomesJsonAndBack(JobInfo.JobInfo))
})
