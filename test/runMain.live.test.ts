/**
 * A host under `NodeRuntime.runMain` that is told to end: it closes its layers, and with them its jobs.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import * as Hosts from "./fixtures/hosts.ts"
import * as Processes from "./fixtures/processes.ts"
import * as WallTime from "./fixtures/wallTime.ts"

const programs = Effect.runSync(Scope.make())
let program = ""

beforeAll(async () => {
  program = await Effect.runPromise(Scope.extend(Hosts.build("host.ts"), programs))
})

afterAll(() => Effect.runPromise(Scope.close(programs, Exit.void)))

const directory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(tmpdir(), "joblib-"))),
  (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
)

/** A shell that does this on SIGTERM, and then leaves a file named for it in a directory. */
const handling = (directory: string, handler: string, andThen = "exit") => [
  "sh",
  "-c",
  `trap '${handler}; : >"$0/$$"; ${andThen}' TERM; echo up; while :; do sleep 0.05; done`,
  directory
]

const start = (jobs: number, job: ReadonlyArray<string>) =>
  Effect.tap(Hosts.start(program, { jobs, job, runMain: true }), (host) => host.says(/^idle$/m))

/** How the host ends after this, and after how many milliseconds. */
const end = (host: Hosts.Host, how: () => unknown) =>
  Effect.gen(function*() {
    const begin = performance.now()
    yield* Effect.sync(how)
    const exit = yield* host.exited
    return { exit, time: performance.now() - begin }
  })

describe("a host under runMain", () => {
  const signals = ["SIGTERM", "SIGINT"] as const
  const forEachSignal = (check: (signal: NodeJS.Signals) => Effect.Effect<void, never, Scope.Scope>) => () =>
    Effect.forEach(signals, check, { concurrency: "unbounded", discard: true })

  it.scopedLive(
    "that gets SIGTERM or SIGINT leaves when its jobs have had the time to leave",
    forEachSignal((signal) =>
      Effect.gen(function*() {
        const files = yield* directory
        const host = yield* start(5, handling(files, "sleep 0.3"))
        const { exit, time } = yield* end(host, () => process.kill(host.pid, signal))
        assert.lengthOf(Fs.readdirSync(files), 5)
        assert.isEmpty(Processes.carrying(host.token))
        assert.isNumber(exit)
        WallTime.assertWithin(time, 2000)
      })
    )
  )

  it.scopedLive(
    "that gets SIGTERM or SIGINT kills its jobs that ignore SIGTERM, all after one grace period",
    forEachSignal((signal) =>
      Effect.gen(function*() {
        const host = yield* start(5, Hosts.stubbornFamily)
        const { exit, time } = yield* end(host, () => process.kill(host.pid, signal))
        assert.isEmpty(Processes.carrying(host.token))
        assert.isNumber(exit)
        assert.isAbove(time, 4900)
        WallTime.assertWithin(time, 7000)
      })
    )
  )

  it.scopedLive("that gets a second Ctrl-C dies at once, and its jobs within two seconds", () =>
    Effect.gen(function*() {
      const files = yield* directory
      const host = yield* start(5, handling(files, ":", ":"))
      process.kill(host.pid, "SIGINT")
      yield* Processes.eventually(() => Fs.readdirSync(files), (names) => names.length === 5)
      const { exit, time } = yield* end(host, () => process.kill(host.pid, "SIGINT"))
      assert.strictEqual(exit, "SIGINT")
      WallTime.assertWithin(time, 1000)
      yield* Processes.none(() => Processes.carrying(host.token)).pipe(Effect.timeout(WallTime.limit(2000)))
    }))
})
