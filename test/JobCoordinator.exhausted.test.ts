import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFileSync } from "node:child_process"
import * as Hosts from "./fixtures/hosts.ts"

describe("a start in a host that is out of descriptors", () => {
  it.scopedLive("fails with ResourceExhausted, and the coordinator goes on", () =>
    Effect.gen(function*() {
      const program = yield* Hosts.build("outOfDescriptors.ts")
      const said = execFileSync("sh", ["-c", "ulimit -n 64; exec \"$0\" \"$1\"", process.execPath, program])
      assert.deepStrictEqual(JSON.parse(String(said)), ["JobStartError", "ResourceExhausted", "Exited"])
    }))
})
