/**
 * Many starts at once: the event loop goes on turning, for timers, for other jobs, and for those who give up.
 */
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { JobCoordinator } from "../src/JobCoordinator.ts"
import * as JobSpec from "../src/JobSpec.ts"
import * as Processes from "./fixtures/processes.ts"
import { numbers } from "./fixtures/sizes.ts"
import { live, mark } from "./utils.ts"

const processes = mark()
afterAll(() => assert.deepStrictEqual(processes.alive(), [], "no process is left"))

const sleep = JobSpec.make({ command: "sleep", args: ["1000"], stop: { signal: "SIGKILL" } })

describe("300 starts at once", () => {
  it.live("leave the event loop a turn between a few of them", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      yield* Effect.flatMap(jobs.start(sleep), jobs.stop)
      let turns = 0
      const count = () => {
        turns++
        counting = setImmediate(count)
      }
      let counting = setImmediate(count)
      yield* Effect.forEach(numbers(300), () => jobs.start(sleep), { concurrency: "unbounded" })
      clearImmediate(counting)
      assert.isAbove(turns, 25)
      assert.lengthOf(yield* jobs.list({ status: "Running" }), 300)
    }).pipe(Effect.provide(live())))

  it.live("under a timeout: those that come too late fail in time, and leave no process", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      yield* Effect.flatMap(jobs.start(sleep), jobs.stop)
      const results = yield* Effect.forEach(
        numbers(300),
        () => Effect.either(Effect.timeout(jobs.start(sleep), "20 millis")),
        { concurrency: "unbounded" }
      )
      const started = results.filter(Either.isRight).map(({ right }) => right)
      assert.isBelow(started.length, 300)
      const running = yield* jobs.list({ status: "Running" })
      assert.deepStrictEqual(new Set(running.map(({ id }) => id)), new Set(started))
      yield* Processes.eventually(processes.alive, (alive) => alive.length <= started.length)
    }).pipe(Effect.provide(live())))
})
