/**
 * Why a program did not start, told by real failures of the operating system; and that nothing else suffers from it.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { JobCoordinator } from "../src/JobCoordinator.ts"
import type { JobStartReason } from "../src/JobError.ts"
import * as JobSpec from "../src/JobSpec.ts"
import { Exited } from "../src/JobStatus.ts"
import * as Hosts from "./fixtures/hosts.ts"
import * as Processes from "./fixtures/processes.ts"
import { sh } from "./fixtures/programs.ts"
import { live } from "./utils.ts"

/** A directory with a file in it that is no program. */
const directory = Effect.acquireRelease(
  Effect.sync(() => {
    const directory = Fs.mkdtempSync(Path.join(tmpdir(), "joblib-"))
    Fs.writeFileSync(Path.join(directory, "file"), "", { mode: 0o644 })
    return directory
  }),
  (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
)

describe("a start that fails", () => {
  const failures: ReadonlyArray<readonly [string, JobStartReason, (directory: string) => JobSpec.Options]> = [
    ["a program that is not there", "NotFound", () => ({ command: "joblib-no-such-program" })],
    ["a program that may not be run", "PermissionDenied", (directory) => ({ command: `${directory}/file` })],
    ["a directory that is not there", "InvalidDirectory", (directory) => ({ command: "true", cwd: `${directory}/no` })],
    ["a directory that is a file", "InvalidDirectory", (directory) => ({ command: "true", cwd: `${directory}/file` })],
    ["too long an argument", "ArgumentListTooLong", () => ({ command: "true", args: ["x".repeat(1024 * 1024)] })],
    ["too many arguments", "ArgumentListTooLong", () => ({
      command: "true",
      args: Array.from({ length: 100 }, () => "x".repeat(100_000))
    })]
  ]

  for (const [what, reason, options] of failures) {
    it.scopedLive(`because of ${what} says ${reason}, leaves no job, and the next job runs`, () =>
      Effect.gen(function*() {
        const jobs = yield* JobCoordinator
        const spec = JobSpec.make(options(yield* directory))
        const error = yield* Effect.flip(jobs.start(spec))
        assert.include(error, { _tag: "JobStartError", reason, command: spec.command })
        assert.deepStrictEqual(yield* jobs.list(), [])
        assert.deepStrictEqual(yield* jobs.wait(yield* jobs.start(sh("exit 12"))), new Exited({ code: 12 }))
      }).pipe(Effect.provide(live({ maxRunning: 1 }))))
  }

  for (
    const [field, options] of [
      ["command", { command: "tr\0ue" }],
      ["args", { command: "true", args: ["\0"] }],
      ["cwd", { command: "true", cwd: "/\0" }],
      ["env", { command: "true", env: { A: "\0" } }]
    ] as const
  ) {
    it.scopedLive(`because of a NUL in ${field} is InvalidJobSpec, and the next job runs`, () =>
      Effect.gen(function*() {
        const jobs = yield* JobCoordinator
        const error = yield* Effect.flip(jobs.start(JobSpec.make(options)))
        assert.strictEqual(error._tag, "InvalidJobSpec")
        assert.include("field" in error ? error.field : "", field)
        assert.deepStrictEqual(yield* jobs.wait(yield* jobs.start(sh("exit 12"))), new Exited({ code: 12 }))
      }).pipe(Effect.provide(live({ maxRunning: 1 }))))
  }

  it.scopedLive("because of too many open descriptors says ResourceExhausted; when jobs have ended others run", () =>
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
