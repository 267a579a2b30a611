/**
 * How many files are open, and what happens when there can be no more.
 */
import { Error as PlatformError, type FileSystem } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { OpenFiles } from "../../../src/internal/store/openFiles.ts"
import { numbers } from "../../fixtures/sizes.ts"
import { settle } from "../../utils.ts"

/** Files that do nothing, and how many of them are open. */
const counted = () => {
  const state = { open: 0, most: 0, opened: 0 }
  const open = Effect.acquireRelease(
    Effect.sync(() => {
      state.opened++
      state.most = Math.max(state.most, ++state.open)
      return {} as FileSystem.File
    }),
    () => Effect.sync(() => state.open--)
  )
  return { state, open }
}

const outOfDescriptors = new PlatformError.SystemError({
  reason: "Unknown",
  module: "FileSystem",
  method: "open",
  description: "EMFILE: too many open files",
  cause: Object.assign(new Error(), { code: "EMFILE" })
})

const nothing = () => Effect.yieldNow()

describe("OpenFiles", () => {
  it.scoped("never has more of them than its bound, and keeps those that are used", () =>
    Effect.gen(function*() {
      const files = yield* OpenFiles.make(8)
      const { open, state } = counted()
      const owners = numbers(100).map(() => ({}))
      yield* Effect.forEach(owners, (owner) => files.use(owner, open, nothing), { concurrency: "unbounded" })
      assert.strictEqual(state.most, 8)
      assert.strictEqual(state.opened, 100)
      for (const owner of owners.slice(-4)) yield* files.use(owner, open, nothing)
      for (let i = 0; i < 20; i++) {
        yield* files.use(owners[99] ?? {}, open, nothing)
        yield* files.use(owners[i] ?? {}, open, nothing)
      }
      // The one that is used all the time stays open while twenty others come and go.
      assert.isAtMost(state.opened, 124)
    }))

  it.scoped("closes what is not used for a second or two, and everything at the end", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const files = yield* Scope.extend(OpenFiles.make(8), scope)
      const { open, state } = counted()
      const [one, two] = [{}, {}]
      yield* files.use(one, open, nothing)
      for (let i = 0; i < 3; i++) {
        yield* files.use(two, open, nothing)
        yield* TestClock.adjust("1 seconds")
      }
      assert.strictEqual(state.open, 1)
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(state.open, 0)
      yield* files.use(one, open, nothing)
      yield* Scope.close(scope, yield* Effect.exit(Effect.void))
      assert.strictEqual(state.open, 0)
      yield* files.use(one, open, nothing)
      assert.strictEqual(state.open, 0)
    }))

  it.scoped("is out of descriptors: closes what is idle, else waits, and fails nobody", () =>
    Effect.gen(function*() {
      const files = yield* OpenFiles.make(8)
      const { open, state } = counted()
      const limited = (limit: { now: number }) =>
        Effect.suspend(() => state.open < limit.now ? open : Effect.fail(outOfDescriptors))
      const limit = { now: 1 }
      yield* files.use({}, limited(limit), nothing)
      yield* files.use({}, limited(limit), nothing)
      assert.deepStrictEqual([state.open, state.opened], [1, 2])
      limit.now = 0
      const waiting = yield* Effect.fork(files.use({}, limited(limit), nothing))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(state.opened, 2)
      limit.now = 1
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(waiting)
      assert.strictEqual(state.opened, 3)
    }))

  it.scoped("once closed, waits for no descriptor any more", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const files = yield* Scope.extend(OpenFiles.make(8), scope)
      const waiting = yield* Effect.fork(files.use({}, Effect.fail(outOfDescriptors), nothing))
      yield* TestClock.adjust("1 minute")
      yield* Scope.close(scope, yield* Effect.exit(Effect.void))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Effect.flip(Fiber.join(waiting)), outOfDescriptors)
    }))

  it.scoped("closes no file in use: not one that was idle at the last look, and is used while others are closed", () =>
    Effect.gen(function*() {
      const files = yield* OpenFiles.make(8)
      const { open, state } = counted()
      const [closing, closed, used] = [
        yield* Deferred.make<void>(),
        yield* Deferred.make<void>(),
        yield* Deferred.make<void>()
      ]
      const slow = Effect.acquireRelease(
        open,
        () => Effect.zipRight(Deferred.succeed(closing, undefined), Deferred.await(closed))
      )
      const one = {}
      yield* files.use({}, slow, nothing)
      yield* files.use(one, open, nothing)
      yield* TestClock.adjust("2 seconds")
      yield* Deferred.await(closing)
      const using = yield* Effect.fork(files.use(one, open, () => Deferred.await(used)))
      yield* settle
      yield* Deferred.succeed(closed, undefined)
      yield* settle
      const stillOpen = state.open
      yield* Deferred.succeed(used, undefined)
      yield* Fiber.join(using)
      assert.strictEqual(stillOpen, 1)
    }))

  it.scoped("closing waits for no file that is being closed, because it was not used, on a disk that hangs", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const files = yield* Scope.extend(OpenFiles.make(8), scope)
      const closing = yield* Deferred.make<void>()
      const hanging = Effect.acquireRelease(
        Effect.succeed({} as FileSystem.File),
        () => Effect.zipRight(Deferred.succeed(closing, undefined), Effect.never)
      )
      yield* files.use({}, hanging, nothing)
      yield* TestClock.adjust("2 seconds")
      yield* Deferred.await(closing)
      const closed = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.isTrue(Option.isSome(yield* Fiber.poll(closed)))
    }))

  it.scoped("a file that could not be closed to make room is its owner's trouble", () =>
    Effect.gen(function*() {
      const files = yield* OpenFiles.make(1)
      const { open } = counted()
      const one = {}
      yield* files.use(one, Effect.zipRight(Effect.addFinalizer(() => Effect.die("EIO")), open), nothing)
      yield* files.use({}, open, nothing)
      assert.strictEqual((yield* Effect.exit(files.close(one)))._tag, "Failure")
      assert.strictEqual((yield* Effect.exit(files.use(one, open, nothing)))._tag, "Failure")
    }))
})
