/**
 * A coordinator that runs for months: what ended jobs leave behind. With `JOBLIB_TEST_RUNS` it is the long run.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import { JobCoordinator } from "../src/JobCoordinator.ts"
import type * as JobId from "../src/JobId.ts"
import * as JobSpec from "../src/JobSpec.ts"
import * as ProcessSpawner from "../src/ProcessSpawner.ts"
import * as SimulatedProcesses from "../src/SimulatedProcesses.ts"
import { memoryInUse } from "./fixtures/garbage.ts"
import { over, settle, textOf, until } from "./utils.ts"

const isLong = process.env["JOBLIB_TEST_RUNS"] !== undefined
const rounds = isLong ? 11 : 2
const jobsPerRound = isLong ? 10_000 : 3000
const maxEnded = 1000
const batchSize = 250
const size = 100
const hour = 3_600_000

const heapUsed = Effect.zipRight(settle, Effect.sync(memoryInUse))

/** How many sleeps the clock of the test has. */
const timers = Effect.map(TestClock.sleeps(), Chunk.size)

/** The traces of simulations grow for ever: here each round has a simulation of its own, under one coordinator. */
const simulations = Effect.gen(function*() {
  const simulation = Layer.build(SimulatedProcesses.layer({
    ends: { output: [{ data: "x".repeat(size) }], end: { at: 1, code: 0 } }
  }))
  let current: ProcessSpawner.ProcessSpawner["Type"] | undefined
  const renew = Effect.map(simulation, (context) => {
    current = Context.get(context, ProcessSpawner.ProcessSpawner)
  })
  const spawner = ProcessSpawner.ProcessSpawner.of({
    guarantee: "group",
    spawn: (...args) => Effect.suspend(() => current?.spawn(...args) ?? Effect.dieMessage("no simulation"))
  })
  return { renew, layer: Layer.succeed(ProcessSpawner.ProcessSpawner, spawner) }
})

describe(`${rounds} times ${jobsPerRound} jobs`, () => {
  it.scoped(
    "the last 1,000 stay for an hour with their output; then nothing is left, and the heap is flat",
    () =>
      Effect.gen(function*() {
        const { layer, renew } = yield* simulations
        yield* Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const told = { JobStarted: 0, JobEnded: 0, JobRemoved: 0 }
          yield* Effect.forkScoped(Stream.runForEach(jobs.events, (event) => Effect.sync(() => told[event._tag]++)))
          yield* settle

          const round = Effect.gen(function*() {
            yield* renew
            let ended: ReadonlyArray<JobId.JobId> = []
            for (let batch = 0; batch < jobsPerRound / batchSize; batch++) {
              const ids: Array<JobId.JobId> = []
              while (ids.length < batchSize) ids.push(yield* jobs.start(JobSpec.make({ command: "ends" })))
              yield* TestClock.adjust(1)
              yield* Effect.forEach(ids, jobs.wait)
              ended = [...ended, ...ids].slice(-maxEnded)
            }
            // The first of them ended three batches ago, a millisecond each.
            const list = Effect.map(jobs.list(), (infos) => infos.map((info) => info.id))
            assert.deepStrictEqual(yield* list, ended)
            assert.strictEqual(yield* textOf(jobs.output(ended[0] as JobId.JobId)), "x".repeat(size))
            assert.strictEqual(yield* timers, 1)
            yield* TestClock.adjust(hour - maxEnded / batchSize)
            assert.deepStrictEqual(yield* list, ended)
            for (let left = maxEnded - batchSize; left >= 0; left -= batchSize) {
              yield* TestClock.adjust(1)
              yield* settle
              assert.lengthOf(yield* list, left)
            }
            assert.strictEqual(yield* timers, 0)
            assert.strictEqual((yield* Effect.flip(jobs.info(ended[0] as JobId.JobId)))._tag, "JobNotFound")
          })

          const heap: Array<number> = []
          for (let done = 1; done <= rounds; done++) {
            yield* Effect.scoped(round)
            const all = done * jobsPerRound
            yield* until(() => told.JobRemoved >= all)
            assert.deepStrictEqual(told, { JobStarted: all, JobEnded: all, JobRemoved: all })
            heap.push(yield* heapUsed)
          }
          // The first round warms up. Jobs that stayed would be more than 10 MB.
          const growth = heap.slice(1).map((bytes) => (bytes - (heap[0] ?? 0)) / 1e6)
          assert.isBelow(Math.max(...growth), 5, `growth in MB: ${growth.map((mb) => mb.toFixed(2)).join(", ")}`)
          if (isLong) {
            console.log(`heap after each round, in MB: ${heap.map((bytes) => (bytes / 1e6).toFixed(2)).join(", ")}`)
          }
        }).pipe(Effect.provide(over(layer, { retention: { maxEnded, timeToLive: hour } })))
      }),
    600_000
  )
})
