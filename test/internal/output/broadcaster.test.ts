import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as TestClock from "effect/TestClock"
import * as JobCoordinator from "../../../src/JobCoordinator.ts"
import * as JobSpec from "../../../src/JobSpec.ts"
import { Killed } from "../../../src/JobStatus.ts"
import { OutputStore } from "../../../src/OutputStore.ts"
import { ProcessSpawner } from "../../../src/ProcessSpawner.ts"
import * as SimulatedProcesses from "../../../src/SimulatedProcesses.ts"
import { settings, settle } from "../../utils.ts"

const size = 300_000

const processes = SimulatedProcesses.layer({
  writes: { output: [{ data: new Uint8Array(size) }], end: { code: 0 } },
  runs: { output: [{ data: new Uint8Array(size) }] }
})

/** A spawner that takes its time to return, while its process is at work. */
const slow = Layer.effect(
  ProcessSpawner,
  Effect.map(ProcessSpawner, (spawner) => ({
    guarantee: spawner.guarantee,
    spawn: (spec, listener) => Effect.tap(spawner.spawn(spec, listener), () => Effect.sleep("100 millis"))
  }))
).pipe(Layer.provide(processes))

/** A store with room for a third of the output in memory; `keep` says whether there is more in itself. */
const store = (keep: Effect.Effect<boolean>) =>
  Layer.succeed(OutputStore, {
    window: { maxBytesPerJob: size / 3, maxBytes: 2 ** 28 },
    open: Option.some(() =>
      Effect.succeed({
        append: () => keep,
        rest: Effect.void,
        start: () => 0,
        read: () => Effect.succeed([]),
        tail: (_: unknown, bytes: number, to: number) => Effect.succeed(Math.max(0, to - bytes)),
        remove: Effect.void
      })
    )
  })

const spawners = { "that returns at once": processes, "that returns late": slow }
const times = {
  "in the same turn": Effect.void,
  "in the next turn": settle,
  "a millisecond later": Effect.sleep("1 millis")
}

for (const [whenReturned, spawner] of Object.entries(spawners)) {
  for (const [whenAnswered, wait] of Object.entries(times)) {
    const run = <A, E>(keeps: boolean, effect: Effect.Effect<A, E, JobCoordinator.JobCoordinator>) =>
      effect.pipe(Effect.provide(
        JobCoordinator.layerWithStore.pipe(
          Layer.provide(store(Effect.as(wait, keeps))),
          Layer.provide(spawner),
          Layer.provide(settings())
        )
      ))
    /** Lets time pass until the effect is done. */
    const pass = <A, E>(effect: Effect.Effect<A, E>) =>
      Effect.gen(function*() {
        const fiber = yield* Effect.fork(effect)
        while (fiber.unsafePoll() === null) {
          yield* settle
          yield* TestClock.adjust("100 millis")
        }
        return yield* Fiber.join(fiber)
      })

    describe(`a store that answers ${whenAnswered}, with a spawner ${whenReturned}`, () => {
      it.effect("a full window makes the job wait, and the job goes on", () =>
        run(
          true,
          Effect.gen(function*() {
            const jobs = yield* JobCoordinator.JobCoordinator
            const id = yield* pass(jobs.start(JobSpec.make({ command: "writes" })))
            yield* pass(jobs.wait(id))
            assert.strictEqual((yield* jobs.info(id)).output.stdoutBytes, size)
          })
        ))

      it.effect("a full store stops the job", () =>
        run(
          false,
          Effect.gen(function*() {
            const jobs = yield* JobCoordinator.JobCoordinator
            const id = yield* pass(jobs.start(JobSpec.make({ command: "runs" })))
            assert.deepStrictEqual(yield* pass(jobs.wait(id)), new Killed({ signal: "SIGTERM" }))
            assert.deepStrictEqual((yield* jobs.info(id)).stopReason, Option.some("limit"))
          })
        ))
    })
  }
}
