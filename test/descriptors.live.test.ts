/**
 * A host that runs out of descriptors, for real: its limit is low.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import * as Hosts from "./fixtures/hosts.ts"
import * as Processes from "./fixtures/processes.ts"

describe("a job for which there are no descriptors left", () => {
  it.scopedLive("fails to start with ResourceExhausted, and when others have ended it runs", () =>
    Effect.gen(function*() {
      const program = yield* Hosts.build("crowded.ts")
      const token = randomUUID()
      const host = spawn("sh", ["-c", "ulimit -n 64; exec \"$0\" \"$1\"", process.execPath, program], {
        env: { ...process.env, HOST_TOKEN: token },
        stdio: ["ignore", "pipe", "inherit"]
      })
      const says = Hosts.waitForOutput(host.stdout)
      assert.strictEqual(yield* Hosts.waitForExit(host), 0)
      assert.isEmpty(Processes.carrying(token))
      const [output] = yield* says(/^.*\n(.*\n)*$/)
      const lines = output.trim().split("\n").map((line): unknown => JSON.parse(line))
      assert.lengthOf(lines, 6)
      lines.forEach((line, n) => {
        if (n % 2 === 1) return assert.deepStrictEqual(line, { _tag: "Exited", code: 12 })
        assert.include(line, { error: "ResourceExhausted" })
        assert.isAbove((line as { readonly running: number }).running, 5)
      })
    }))
})
