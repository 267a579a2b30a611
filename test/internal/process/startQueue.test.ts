import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { StartQueue } from "../../../src/internal/process/startQueue.ts"
import { settle } from "../../utils.ts"

const numbers = Array.from({ length: 10 }, (_, n) => n)

/** Starts of so many milliseconds; the names of those that were made, and the turn of the event loop in which each was. */
const make = (time: number, isReady = () => true) => {
  const queue = new StartQueue(isReady)
  const started: Array<{ readonly name: number; readonly turn: number }> = []
  let turn = 0
  const count = () => {
    turn++
    counting = setImmediate(count)
  }
  let counting = setImmediate(count)
  const start = (name: number) =>
    Effect.zipRight(
      queue.turn,
      Effect.sync(() => {
        started.push({ name, turn })
        queue.spend(time)
      })
    )
  const stop = Effect.sync(() => clearImmediate(counting))
  return { queue, start, started, stop, names: () => started.map(({ name }) => name) }
}

describe("StartQueue", () => {
  it("lets a single one go at once", () => {
    Effect.runSync(new StartQueue(() => true).turn)
  })

  it.live("lets one that takes long go in each turn of the event loop, in the order in which they came", () =>
    Effect.gen(function*() {
      const { names, start, started, stop } = make(50)
      yield* Effect.forEach(numbers, start, { concurrency: "unbounded" })
      yield* stop
      assert.deepStrictEqual(names(), numbers)
      const turns = started.map(({ turn }) => turn)
      assert.deepStrictEqual(new Set(turns).size, turns.length)
    }))

  it.live("lets several go in a turn if they are quick", () =>
    Effect.gen(function*() {
      const { start, started, stop } = make(1.1)
      yield* Effect.forEach(numbers, start, { concurrency: "unbounded" })
      yield* stop
      assert.strictEqual(new Set(started.map(({ turn }) => turn)).size, 2)
    }))

  it.live("skips those that have given up, before they were woken or after", () =>
    Effect.gen(function*() {
      let ready = false
      const { names, queue, start, stop } = make(50, () => ready)
      const fibers = yield* Effect.forEach(numbers, (name) => Effect.fork(start(name)))
      yield* settle
      yield* Effect.forEach([1, 4, 9], (name) => Fiber.interrupt(fibers[name] ?? Fiber.void))
      ready = true
      // Woken and interrupted in the same moment.
      queue.wake()
      yield* Fiber.interrupt(fibers[0] ?? Fiber.void)
      yield* Effect.forEach(fibers, Fiber.await)
      yield* stop
      assert.deepStrictEqual(names().filter((name) => name > 0), [2, 3, 5, 6, 7, 8])
    }))

  it.live("waits until it is woken when nobody can start", () =>
    Effect.gen(function*() {
      let ready = false
      const { names, queue, start, stop } = make(1, () => ready)
      const fiber = yield* Effect.fork(Effect.forEach(numbers, start, { concurrency: "unbounded" }))
      yield* settle
      assert.deepStrictEqual(names(), [])
      ready = true
      queue.wake()
      yield* Fiber.join(fiber)
      yield* stop
      assert.deepStrictEqual(names(), numbers)
    }))
})
