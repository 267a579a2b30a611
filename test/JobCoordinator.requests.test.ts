import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import { JobCoordinator } from "../src/JobCoordinator.ts"
import type { JobId } from "../src/JobId.ts"
import * as JobSpec from "../src/JobSpec.ts"
import { live, mark, settle, simulated, simulatedAlive, trace } from "./utils.ts"

const forever = { runs: {} }
const run = JobSpec.make({ command: "runs" })

describe("requests that are given up", () => {
  // Simulated processes are made in no time: it is interruption at any moment that is tried here, not the clock.
  for (const capacity of [1, 4]) {
    it.effect(`every process has a start that succeeded, whenever its caller leaves (mailbox of ${capacity})`, () =>
      Effect.gen(function*() {
        let total = 0
        for (let seed = 0; seed < 8; seed++) {
          yield* Effect.gen(function*() {
            const jobs = yield* JobCoordinator
            const random = Random.make(seed)
            let succeeded = 0
            const callers: Array<Fiber.RuntimeFiber<unknown, unknown>> = []
            for (let i = 0; i < 200; i++) {
              callers.push(yield* Effect.fork(Effect.tap(jobs.start(run), () => Effect.sync(() => succeeded++))))
              if ((yield* random.nextIntBetween(0, 10)) === 0) yield* Effect.yieldNow()
              const unlucky = callers[yield* random.nextIntBetween(0, 2 * callers.length)]
              if (unlucky !== undefined) yield* Fiber.interruptFork(unlucky)
            }
            yield* Effect.forEach(callers, Fiber.await)
            const listed = (yield* jobs.list()).length
            yield* settle
            assert.strictEqual((yield* simulatedAlive).size, succeeded, `seed ${seed}`)
            assert.strictEqual(listed, succeeded)
            total += succeeded
          }).pipe(Effect.provide(simulated(forever, { mailboxCapacity: capacity })))
        }
        assert.isAbove(total, 8 * 50)
        assert.isBelow(total, 8 * 190)
      }))
  }

  it.effect("at whichever step the caller's fiber yields: no job is lost between the answer and the next step", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      for (let steps = 30; steps < 300; steps++) {
        let answer: JobId | undefined
        const caller = yield* jobs.start(run).pipe(
          Effect.tap((id) =>
            Effect.sync(() => {
              answer = id
            })
          ),
          Effect.withMaxOpsBeforeYield(steps),
          Effect.fork
        )
        while ((yield* simulatedAlive).size === 0 && caller.unsafePoll() === null) yield* Effect.yieldNow()
        yield* Fiber.interrupt(caller)
        if (answer !== undefined) yield* jobs.stop(answer)
        assert.strictEqual((yield* simulatedAlive).size, 0, `after ${steps} steps`)
      }
    }).pipe(Effect.provide(simulated(forever))))

  it.effect("a start that was undone is in no list, no event, and takes no place", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      for (let turns = 0; turns < 40; turns++) {
        const caller = yield* Effect.fork(jobs.start(run))
        for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow()
        yield* Fiber.interrupt(caller)
        for (const job of yield* jobs.list()) {
          if (job.status._tag === "Running") yield* jobs.stop(job.id)
          yield* jobs.remove(job.id)
        }
        assert.strictEqual((yield* simulatedAlive).size, 0)
      }
      const id = yield* jobs.start(run)
      assert.strictEqual((yield* Effect.flip(jobs.start(run)))._tag, "JobLimitReached")
      yield* jobs.stop(id)
    }).pipe(Effect.provide(simulated(forever, { maxRunning: 1 }))))

  it.effect("what an undone start had written takes no room from others", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const chatty = JobSpec.make({ command: "chatty" })
      let undone = 0
      for (let turns = 0; turns < 20; turns++) {
        const spawned = (yield* trace).length
        const caller = yield* Effect.fork(jobs.start(chatty))
        for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow()
        yield* Fiber.interrupt(caller)
        for (const job of yield* jobs.list()) {
          yield* jobs.stop(job.id)
          yield* jobs.remove(job.id)
          undone--
        }
        if ((yield* trace).length > spawned) undone++
      }
      assert.isAbove(undone, 0)
      const id = yield* jobs.start(chatty)
      assert.strictEqual((yield* jobs.info(id)).output.evictedBytes, 0)
    }).pipe(Effect.provide(simulated(
      { chatty: { output: [{ data: "x".repeat(8192) }, { data: "y".repeat(8192) }] } },
      { output: { maxBytes: 20_000 } }
    ))))

  it.live("200 callers with random timeouts: processes alive == starts recorded inside the timeout", () =>
    Effect.gen(function*() {
      const processes = mark()
      for (let seed = 0; seed < 3; seed++) {
        yield* Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const random = Random.make(seed)
          let succeeded = 0
          const sleep = JobSpec.make({ command: "sleep", args: ["1000"] })
          yield* Effect.forEach(Array.from({ length: 200 }), () =>
            Effect.gen(function*() {
              const millis = yield* random.nextIntBetween(0, 400)
              yield* jobs.start(sleep).pipe(
                Effect.tap(() => Effect.sync(() => succeeded++)),
                Effect.timeoutOption(Duration.millis(millis))
              )
            }), { concurrency: "unbounded" })
          assert.strictEqual((yield* jobs.list()).length, succeeded)
          assert.strictEqual(processes.alive().length, succeeded)
          assert.isAbove(succeeded, 0)
        }).pipe(Effect.provide(live({ mailboxCapacity: 4 })))
        assert.lengthOf(processes.alive(), 0)
      }
    }))

  it.effect("callers that wait for room leave without a trace", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(run)
      for (let turns = 0; turns < 30; turns++) {
        const callers = yield* Effect.forEach(Array.from({ length: 50 }), () =>
          Effect.fork(Effect.all([jobs.status(id), jobs.list(), Effect.scoped(jobs.pull(id))])))
        for (let turn = 0; turn < turns; turn++) {
          yield* Effect.yieldNow()
        }
        yield* Effect.forEach(callers, Fiber.interruptFork)
        assert.strictEqual((yield* jobs.status(id))._tag, "Running")
        const exits = yield* Effect.forEach(callers, Fiber.await)
        for (const exit of exits) {
          if (Exit.isFailure(exit)) {
            assert.isTrue(Exit.isInterrupted(exit))
          }
        }
      }
    }).pipe(Effect.provide(simulated(forever, { mailboxCapacity: 1, maxSubscribers: 60 }))))
})
