/**
 * What brings a log to a store, over stores that do everything at once, nothing, or only some of it.
 */
import { afterEach, assert, describe, it, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as TestClock from "effect/TestClock"
import { Archive } from "../../../src/internal/output/archive.ts"
import { OutputBudget } from "../../../src/internal/output/outputBudget.ts"
import { OutputLog } from "../../../src/internal/output/outputLog.ts"
import { OutputStoreError } from "../../../src/JobError.ts"
import type { StoredOutput } from "../../../src/OutputStore.ts"

const make = (store: Partial<StoredOutput>, open: Effect.Effect<void, OutputStoreError> = Effect.void) => {
  const log = new OutputLog(1000, new OutputBudget(Infinity))
  log.stored = 0
  const seen: Array<string> = []
  const note = (what: string) => Effect.sync(() => void seen.push(what))
  const archive = new Archive({
    log,
    open: Effect.as(open, {
      append: (chunks) => Effect.as(note(`append ${chunks.reduce((size, _) => size + _.bytes.length, 0)}`), true),
      rest: note("rest"),
      read: () => Effect.succeed([]),
      start: () => 0,
      tail: () => Effect.succeed(0),
      remove: note("remove"),
      ...store
    }),
    fork: Effect.runFork,
    onStored: (position) => seen.push(`stored ${position}`),
    onStopped: (reason) =>
      seen.push(`stopped ${Option.match(reason, { onNone: () => "full", onSome: () => "failed" })}`)
  })
  const write = (length: number) => {
    log.append("stdout", new Uint8Array(length))
    archive.advance()
  }
  return { archive, log, seen, write }
}

afterEach(() => {
  vi.useRealTimers()
})

describe("Archive", () => {
  it.effect("a store that does everything at once is not heard of before advance has returned", () =>
    Effect.gen(function*() {
      const { archive, seen, write } = make({})
      write(5000)
      assert.deepStrictEqual(seen, [])
      yield* archive.settled
      assert.deepStrictEqual(seen, ["append 5000", "stored 5000", "rest"])
    }))

  it.effect("nor is one that is full in its first append, or fails at once to open", () =>
    Effect.gen(function*() {
      const full = make({ append: () => Effect.succeed(false) })
      full.write(5000)
      assert.deepStrictEqual(full.seen, [])
      yield* full.archive.settled
      assert.deepStrictEqual(full.seen.slice(0, 2), ["stored 5000", "stopped full"])
      const broken = make({}, Effect.fail(new OutputStoreError({ operation: "open", cause: "no" })))
      broken.write(5000)
      assert.deepStrictEqual(broken.seen, [])
      yield* broken.archive.settled
      assert.deepStrictEqual(broken.seen, ["stopped failed"])
      assert.isTrue(Option.isSome(broken.archive.error))
      assert.strictEqual(broken.archive.missingBytes, 5000)
    }))

  it.live("waits for no more bytes once somebody waits for the end", () =>
    Effect.gen(function*() {
      vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] })
      const { archive, seen, write } = make({})
      write(10)
      yield* Effect.yieldNow()
      yield* archive.settled
      assert.deepStrictEqual(seen, ["append 10", "stored 10", "rest"])
      write(10)
      yield* archive.settled
      assert.strictEqual(archive.missingBytes, 0)
    }))

  it("is settled at once if there is nothing to store", () => {
    Effect.runSync(make({}).archive.settled)
  })

  it.effect("what is written little by little is written together, after a pause", () =>
    Effect.gen(function*() {
      vi.useFakeTimers({ toFake: ["setTimeout", "Date"] })
      const { seen, write } = make({ rest: Effect.void })
      const turn = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      const step = (ms: number) =>
        Effect.zipRight(turn, Effect.zipRight(Effect.sync(() => void vi.advanceTimersByTime(ms)), turn))
      write(1)
      yield* step(5)
      assert.deepStrictEqual(seen, ["append 1", "stored 1"])
      for (let i = 0; i < 50; i++) {
        write(1)
        yield* step(20)
      }
      // In a second.
      assert.isAtMost(seen.length, 2 + 2 * 2)
    }))

  it.effect("a store that gets nothing done has failed, but one that is slow has not", () =>
    Effect.gen(function*() {
      const { archive, log, seen, write } = make({ append: () => Effect.never })
      write(5000)
      const waiting = yield* Effect.fork(archive.settled)
      yield* TestClock.adjust("29 seconds")
      assert.isTrue(Option.isNone(archive.error))
      yield* TestClock.adjust("1 seconds")
      yield* Fiber.join(waiting)
      assert.include(Option.getOrThrow(archive.error).message, "30 s")
      assert.deepStrictEqual(seen, ["stopped failed"])
      assert.strictEqual(archive.missingBytes, log.head)
    }))

  it.effect("what is removed is settled, and removed once the write under way is done", () =>
    Effect.gen(function*() {
      let done = () => {}
      const { archive, seen, write } = make({
        append: () =>
          Effect.async((resume) => {
            done = () => resume(Effect.succeed(true))
          })
      })
      write(5000)
      const waiting = yield* Effect.fork(archive.settled)
      yield* Effect.yieldNow()
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      archive.remove()
      yield* Fiber.join(waiting)
      assert.deepStrictEqual(seen, [])
      done()
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      assert.deepStrictEqual(seen, ["rest", "remove"])
    }))
})
