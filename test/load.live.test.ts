/**
 * Many real jobs: no exit, no line, no descriptor and no memory is lost. `JOBLIB_TEST_FULL=1` tries as many as promised.
 */
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Supervisor from "effect/Supervisor"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import type * as JobConfig from "../src/JobConfig.ts"
import { JobCoordinator } from "../src/JobCoordinator.ts"
import * as JobSpec from "../src/JobSpec.ts"
import { Exited, isEnded } from "../src/JobStatus.ts"
import * as Processes from "./fixtures/processes.ts"
import { sh } from "./fixtures/programs.ts"
import { numbers, size } from "./fixtures/sizes.ts"
import { latin1, live, mark, settle } from "./utils.ts"

const processes = mark()
afterAll(() => assert.deepStrictEqual(processes.alive(), [], "no process is left"))

const timeout = 300_000

const test = (
  promise: string,
  body: Effect.Effect<void, unknown, JobCoordinator | Scope.Scope>,
  settings: JobConfig.PartialSettings = {}
) => it.scopedLive(promise, () => Effect.provide(body, live(settings)), timeout)

const descriptors = () => Fs.readdirSync("/proc/self/fd").length

/** Two processes that never rest, until the scope closes. */
const busyCores = Effect.acquireRelease(
  Effect.sync(() => numbers(2).map(() => spawn("sh", ["-c", "while :; do :; done"], { stdio: "ignore" }))),
  (children) => Effect.sync(() => children.forEach((child) => child.kill("SIGKILL")))
)

const text = (bytes: Stream.Stream<Uint8Array, unknown>) => Effect.map(Stream.runCollect(bytes), latin1)

/** Starts a job, reads both its streams, and waits for its end. */
const run = (spec: JobSpec.JobSpec) =>
  Effect.gen(function*() {
    const jobs = yield* JobCoordinator
    const id = yield* jobs.start(spec)
    return yield* Effect.all([text(jobs.stdout(id)), text(jobs.stderr(id)), jobs.wait(id)], { concurrency: 3 })
  })

describe("many jobs at once", () => {
  const count = size(900, 300)

  it.live(
    `${count}, a line on each stream, exit 12: exact bytes and statuses, no zombie, no descriptor left`,
    () =>
      Effect.gen(function*() {
        yield* run(sh("exit 12")).pipe(Effect.provide(live()))
        const before = descriptors()
        const results = yield* Effect.forEach(
          numbers(count),
          (n) => run(sh(`echo out ${n}; echo err ${n} >&2; exit 12`)),
          { concurrency: 100 }
        ).pipe(
          Effect.zipLeft(Effect.sync(() => assert.isEmpty(Processes.zombiesOf(process.pid)))),
          Effect.provide(live())
        )
        assert.deepStrictEqual(
          results,
          numbers(count).map((n) => [`out ${n}\n`, `err ${n}\n`, new Exited({ code: 12 })])
        )
        yield* Processes.eventually(descriptors, (now) => now <= before)
      }),
    timeout
  )

  test(
    `of ${size(1000, 100)} that write one line and exit, on a machine whose cores are all busy, no line is lost`,
    Effect.gen(function*() {
      yield* busyCores
      const results = yield* Effect.forEach(numbers(size(1000, 100)), () => run(sh("echo last; exit")), {
        concurrency: 10
      })
      assert.deepStrictEqual(results, results.map(() => ["last\n", "", new Exited({ code: 0 })]))
    })
  )

  const rounds = size(100, 5)

  test(
    `10 times 10 that exit at the same moment, ${rounds} rounds: no exit is lost`,
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const codes = numbers(100)
      const inTens = { concurrency: 10 } as const
      for (const _ of numbers(rounds)) {
        const ids = yield* Effect.forEach(
          codes,
          (code) => jobs.start(sh(`read line; exit ${code}`, { stdin: "pipe" })),
          inTens
        )
        const waits = yield* Effect.fork(Effect.forEach(ids, (id) => jobs.wait(id), { concurrency: "unbounded" }))
        yield* Effect.forEach(ids, (id) => Stream.run(Stream.empty, jobs.input(id)), { concurrency: "unbounded" })
        assert.deepStrictEqual(yield* Fiber.join(waits), codes.map((code) => new Exited({ code })))
      }
    })
  )
})

describe("callers who ask without a pause", () => {
  for (const callers of [1, 100]) {
    test(
      `see the end of a job: ${callers} of them`,
      Effect.gen(function*() {
        const jobs = yield* JobCoordinator
        const id = yield* jobs.start(JobSpec.make({ command: "true" }))
        const statuses = yield* Effect.forEach(
          numbers(callers),
          () => Effect.repeat(jobs.status(id), { until: isEnded }),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(statuses, statuses.map(() => new Exited({ code: 0 })))
      })
    )
  }
})

setFlagsFromString("--expose-gc")
const collectGarbage = runInNewContext("gc") as () => void

const heap = Effect.gen(function*() {
  // What is referred to by what is collected goes the second time, what is referred to by callbacks of a turn after it.
  yield* settle
  collectGarbage()
  yield* settle
  collectGarbage()
  return process.memoryUsage().heapUsed
})

describe("a coordinator", () => {
  const cycles = size(10_000, 1000)

  it.live(
    `that has started and ended ${cycles} jobs is as large as before: heap, fibers and descriptors`,
    () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const supervisor = yield* Supervisor.track
        const layer = live({ retention: { maxEnded: 10 } })
        const context = yield* Effect.supervised(Layer.buildWithScope(layer, scope), supervisor)
        const run = Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const id = yield* jobs.start(sh("echo out; echo err >&2"))
          assert.deepStrictEqual(yield* jobs.wait(id), new Exited({ code: 0 }))
        }).pipe(Effect.provide(context))
        const runMany = (count: number) => Effect.forEach(numbers(count), () => run, { concurrency: 4, discard: true })
        const measure = Effect.gen(function*() {
          const heapUsed = yield* heap
          return { heap: heapUsed, fibers: (yield* supervisor.value).length, descriptors: descriptors() }
        })

        yield* runMany(200)
        const before = yield* measure
        yield* runMany(cycles)
        const after = yield* measure
        assert.isAtMost(after.fibers, before.fibers)
        assert.isAtMost(after.descriptors, before.descriptors)
        // What was compiled meanwhile counts too, half a megabyte at times; jobs that stayed would take several.
        assert.isBelow(after.heap - before.heap, 1_000_000)
        yield* Scope.close(scope, Exit.void)
      }),
    timeout
  )
})
