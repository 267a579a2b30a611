import { describe, it } from "@effect/vitest"
import * as JobEvent from "../src/JobEvent.ts"
import { assertBecomesJsonAndBack } from "./json.ts"

describe("JobEvent", () => {
  it("becomes JSON and back", () => assertBecomesJsonAndBack(JobEvent.JobEvent))
})
