import { NodeContext } from "@effect/platform-node"
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { Checks, Jobs, Logs, Screen } from "./examples/app.ts"
import { mark, simulated } from "./utils.ts"

const processes = mark()
afterAll(() => assert.deepStrictEqual(processes.alive(), []))

const screen = () => {
  const lines: Array<string> = []
  return { lines, layer: Layer.succeed(Screen, { show: (line) => Effect.sync(() => void lines.push(line)) }) }
}

const directory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(tmpdir(), "joblib-"))),
  (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
)

/** The application with files for its logs, and jobs as given. */
const app = (logs: string, jobs: typeof Jobs, shown: Layer.Layer<Screen>, environment: Record<string, string> = {}) =>
  Checks.layer.pipe(
    Layer.provide([jobs, shown, Logs.layerFiles]),
    Layer.provide(NodeContext.layer),
    Layer.provide(
      Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries({ ...environment, LOGS: logs }))))
    )
  )

describe("the example application", () => {
  it.scopedLive("runs real checks, shows their lines, keeps their bytes, and stops the rest when one fails", () =>
    Effect.gen(function*() {
      const logs = yield* directory
      const { layer, lines } = screen()
      const outcomes = yield* Effect.flatMap(Checks, (checks) =>
        checks.run({
          lint: "echo looks good; printf 'no newline' >&2",
          tests: "echo one; echo two; sleep 0.1; exit 1",
          endless: "echo waiting; exec sleep 1000"
        })).pipe(Effect.provide(app(logs, Jobs, layer)))
      assert.deepStrictEqual(outcomes, { lint: "passed", tests: "failed", endless: "stopped" })
      assert.sameMembers(lines, [
        "lint: looks good",
        "lint! no newline",
        "tests: one",
        "tests: two",
        "endless: waiting"
      ])
      assert.strictEqual(Fs.readFileSync(Path.join(logs, "tests.log"), "utf8"), "one\ntwo\n")
      assert.strictEqual(Fs.readFileSync(Path.join(logs, "lint.log"), "utf8").length, "looks good\nno newline".length)
    }))

  it.scopedLive("reads the settings of its jobs from the environment", () =>
    Effect.gen(function*() {
      const logs = yield* directory
      const run = (environment: Record<string, string>) =>
        Effect.flatMap(Checks, (checks) => checks.run({ one: "sleep 1000", two: "sleep 1001" })).pipe(
          Effect.provide(app(logs, Jobs, screen().layer, environment)),
          Effect.flip
        )
      assert.deepInclude(yield* run({ JOBLIB_MAX_RUNNING: "1" }), { _tag: "JobLimitReached", limit: 1 })
      assert.deepInclude(yield* run({ JOBLIB_MAX_RUNNING: "some" }), { _op: "InvalidData" })
    }))

  it.scoped("runs over simulated processes as well", () =>
    Effect.gen(function*() {
      const { layer, lines } = screen()
      const jobs = simulated({
        lint: { output: [{ data: "fine\nso far" }, { source: "stderr", data: "oh\r\n" }], end: { code: 0 } }
      })
      const outcomes = yield* Effect.flatMap(Checks, (checks) => checks.run({ lint: "lint" })).pipe(
        Effect.provide(app(yield* directory, jobs, layer))
      )
      assert.deepStrictEqual(outcomes, { lint: "passed" })
      assert.sameMembers(lines, ["lint: fine", "lint: so far", "lint! oh"])
    }))
})
