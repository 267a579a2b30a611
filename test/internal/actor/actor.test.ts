import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as Actor from "../../../src/internal/actor/actor.ts"
import { settle } from "../../utils.ts"

type Message =
  | { readonly _tag: "Add"; readonly n: number; readonly reply: Actor.Reply<number, string> }
  | { readonly _tag: "Pause"; readonly until: Effect.Effect<void>; readonly reply: Actor.Reply<void> }
  | { readonly _tag: "Note"; readonly text: string }
  | { readonly _tag: "Break"; readonly reply: Actor.Reply<void> }
  | { readonly _tag: "Leave" }

/** An actor that adds up, and whose fiber a test can hold. */
const counter = (capacity: number) =>
  Effect.gen(function*() {
    const received: Array<number | string> = []
    let sum = 0
    const scope = yield* Scope.make()
    const actor = yield* Actor.make<Message, "stopped">({
      capacity,
      runtime: yield* Effect.runtime<never>(),
      stopped: () => "stopped"
    })
    const receive = (message: Message) => {
      switch (message._tag) {
        case "Add":
          return Effect.sync(() => {
            received.push(message.n)
            message.reply(message.n < 0 ? Exit.fail("negative") : Exit.succeed(sum += message.n))
          })
        case "Pause":
          message.reply(Exit.void)
          return message.until
        case "Note":
          return Effect.sync(() => void received.push(message.text))
        case "Break":
          return Effect.die("broken")
        case "Leave":
          return Scope.close(scope, Exit.void)
      }
    }
    yield* actor.start(receive, scope)
    const add = (n: number) => actor.ask<number, string>((reply) => ({ _tag: "Add", n, reply }))
    const query = (n: number) => actor.query<number, string>((reply) => ({ _tag: "Add", n, reply }))
    /** Holds the actor's fiber until the result is run. */
    const pause = Effect.gen(function*() {
      const resumed = yield* Deferred.make<void>()
      yield* actor.ask<void, never>((reply) => ({ _tag: "Pause", until: Deferred.await(resumed), reply }))
      return Deferred.succeed(resumed, undefined)
    })
    return {
      received,
      add,
      query,
      close: Scope.close(scope, Exit.void),
      pause,
      stop: () => actor.stop(),
      notify: (message: Message) => actor.notify(message),
      ask: <A, E>(request: (reply: Actor.Reply<A, E>) => Message) => actor.ask(request),
      note: (text: string) => actor.notify({ _tag: "Note", text })
    }
  })

const turns = (n: number) => Effect.forEach(Array.from({ length: n }), () => Effect.yieldNow(), { discard: true })

const fork = <A, E>(effect: Effect.Effect<A, E>) => Effect.zipLeft(Effect.fork(effect), turns(5))

for (const capacity of [1, 2, 16]) {
  describe(`an actor with a mailbox of ${capacity}`, () => {
    it.effect("what comes while its fiber yields, just before it waits, is received", () =>
      Effect.gen(function*() {
        const runtime = yield* Effect.withMaxOpsBeforeYield(Effect.runtime<never>(), 64)
        const steps = (n: number): Effect.Effect<void> => n === 0 ? Effect.void : Effect.suspend(() => steps(n - 1))
        // With one of these numbers of steps the fiber yields right there, and after one of these waits it does so.
        for (let n = 0; n < 150; n++) {
          for (let wait = 0; wait < 6; wait++) {
            const scope = yield* Scope.make()
            let received = 0
            const actor = yield* Actor.make<number, "stopped">({ capacity, runtime, stopped: () => "stopped" })
            yield* actor.start((n) => Effect.zipRight(Effect.sync(() => received++), steps(n)), scope)
            yield* Effect.promise(async () => {
              actor.notify(n)
              for (let i = 0; i < wait; i++) await Promise.resolve()
              actor.notify(0)
            })
            yield* settle
            assert.strictEqual(received, 2, `${n} steps, ${wait} waits`)
            yield* Scope.close(scope, Exit.void)
          }
        }
      }))

    it.effect("answers every request, one after the other, in order", () =>
      Effect.gen(function*() {
        const actor = yield* counter(capacity)
        const answers = yield* Effect.forEach(
          Array.from({ length: 1000 }, (_, i) => i),
          (i) => i % 2 === 0 ? actor.add(1) : actor.query(1),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(Array.from(answers).sort((a, b) => a - b), Array.from({ length: 1000 }, (_, i) => i + 1))
        assert.strictEqual(yield* Effect.flip(actor.add(-1)), "negative")
      }))

    it.effect("a caller that waits for room is let in when there is some, in the order of arrival", () =>
      Effect.gen(function*() {
        const actor = yield* counter(capacity)
        const resume = yield* actor.pause
        const callers = yield* Effect.forEach(Array.from({ length: 40 }, (_, i) => i), (i) => fork(actor.add(i)))
        yield* resume
        yield* Effect.forEach(callers, Fiber.join)
        assert.deepStrictEqual(actor.received, Array.from({ length: 40 }, (_, i) => i))
      }))

    it.effect("a caller that leaves withdraws its request, queued or waiting for room", () =>
      Effect.gen(function*() {
        const actor = yield* counter(capacity)
        const resume = yield* actor.pause
        const callers = yield* Effect.forEach(Array.from({ length: 40 }, (_, i) => i), (i) => fork(actor.add(i)))
        const odd = callers.filter((_, i) => i % 2 === 1)
        yield* Effect.forEach(odd, Fiber.interrupt)
        yield* resume
        yield* Effect.forEach(callers.filter((_, i) => i % 2 === 0), Fiber.join)
        assert.deepStrictEqual(actor.received, Array.from({ length: 20 }, (_, i) => 2 * i))
        yield* actor.add(1)
      }))

    it.effect("a notice waits for no room, and is received before every request", () =>
      Effect.gen(function*() {
        const actor = yield* counter(capacity)
        const resume = yield* actor.pause
        const callers = yield* Effect.forEach([1, 2, 3, 4], (n) => fork(actor.add(n)))
        for (const text of ["a", "b", "c"]) actor.note(text)
        yield* resume
        yield* Effect.forEach(callers, Fiber.join)
        assert.deepStrictEqual(actor.received, ["a", "b", "c", 1, 2, 3, 4])
      }))

    it.effect("once stopped it refuses every request, in the mailbox and before it; notices are still received", () =>
      Effect.gen(function*() {
        const actor = yield* counter(capacity)
        const resume = yield* actor.pause
        const callers = yield* Effect.forEach(
          Array.from({ length: 40 }, (_, i) => i),
          (i) => fork(i % 2 === 0 ? actor.add(i) : actor.query(i))
        )
        actor.stop()
        assert.strictEqual(yield* Effect.flip(actor.add(1)), "stopped")
        actor.note("last words")
        yield* resume
        for (const caller of callers) assert.strictEqual(yield* Effect.flip(Fiber.join(caller)), "stopped")
        assert.strictEqual(yield* Effect.flip(actor.add(1)), "stopped")
        actor.note("more")
        yield* turns(5)
        assert.deepStrictEqual(actor.received, ["last words", "more"])
      }))

    it.effect("closed, it receives what it was told before, refuses every request, and leaves", () =>
      Effect.gen(function*() {
        const actor = yield* counter(capacity)
        const resume = yield* actor.pause
        const callers = yield* Effect.forEach(Array.from({ length: 40 }, (_, i) => i), (i) => fork(actor.add(i)))
        actor.note("last words")
        const closing = yield* fork(actor.close)
        assert.isNull(closing.unsafePoll())
        yield* resume
        yield* Fiber.join(closing)
        for (const caller of callers) assert.strictEqual(yield* Effect.flip(Fiber.join(caller)), "stopped")
        actor.note("nobody hears this")
        assert.strictEqual(yield* Effect.flip(actor.add(1)), "stopped")
        yield* turns(5)
        assert.deepStrictEqual(actor.received, ["last words"])
      }))

    it.effect("it may close its own scope", () =>
      Effect.gen(function*() {
        const actor = yield* counter(capacity)
        const resume = yield* actor.pause
        const callers = yield* Effect.forEach([1, 2, 3], (n) => fork(actor.add(n)))
        actor.notify({ _tag: "Leave" })
        actor.note("last words")
        yield* resume
        for (const caller of callers) assert.strictEqual(yield* Effect.flip(Fiber.join(caller)), "stopped")
        assert.deepStrictEqual(actor.received, ["last words"])
        yield* actor.close
      }))

    it.effect("nothing is received on the stack of its sender", () =>
      Effect.gen(function*() {
        const actor = yield* counter(capacity)
        yield* actor.add(1)
        yield* Effect.sync(() => {
          actor.note("a")
          assert.deepStrictEqual(actor.received, [1])
        })
        yield* turns(5)
        assert.deepStrictEqual(actor.received, [1, "a"])
      }))

    it.live("callers that ask again and again leave the event loop its turns", () =>
      Effect.gen(function*() {
        const actor = yield* counter(capacity)
        let turn = 0
        const immediate = () => {
          turn++
          if (turn < 20) setImmediate(immediate)
        }
        setImmediate(immediate)
        yield* Effect.all(
          Array.from({ length: 20 }, () => Effect.repeat(actor.add(1), { until: () => turn === 20 })),
          { concurrency: "unbounded" }
        )
      }))

    it.effect("a defect is its caller's, and the actor goes on", () =>
      Effect.gen(function*() {
        const actor = yield* counter(capacity)
        const exits = yield* Effect.forEach(
          [1, 2, 3],
          () => Effect.exit(actor.ask<void, never>((reply) => ({ _tag: "Break", reply }))),
          { concurrency: "unbounded" }
        )
        for (const exit of exits) {
          assert.deepStrictEqual(Exit.isFailure(exit) && Cause.squash(exit.cause), "broken")
        }
        actor.notify({ _tag: "Break", reply: () => {} })
        assert.strictEqual(yield* actor.add(1), 1)
      }).pipe(Effect.provide(Logger.remove(Logger.defaultLogger))))

    it.effect("a logger that fails does not end it", () =>
      Effect.gen(function*() {
        const actor = yield* counter(capacity)
        actor.notify({ _tag: "Break", reply: () => {} })
        assert.strictEqual(yield* actor.add(1), 1)
      }).pipe(Effect.provide(Logger.replace(
        Logger.defaultLogger,
        Logger.make(() => {
          throw new Error("the logger is broken")
        })
      ))))

    it.effect("whoever leaves, and whenever: the others are answered, and what was answered was received once", () =>
      Effect.gen(function*() {
        for (let seed = 0; seed < 40; seed++) {
          const random = Random.make(seed)
          const actor = yield* counter(capacity)
          const callers: Array<Fiber.RuntimeFiber<number, string>> = []
          const steps = yield* random.nextIntBetween(20, 80)
          for (let i = 0; i < 50; i++) {
            const call = (yield* random.nextBoolean) ? actor.add(i) : actor.query(i)
            callers.push(yield* Effect.fork(Effect.withMaxOpsBeforeYield(call, steps)))
            if (yield* random.nextBoolean) yield* Effect.yieldNow()
            const unlucky = callers[yield* random.nextIntBetween(0, 2 * callers.length)]
            if (unlucky !== undefined) yield* Fiber.interruptFork(unlucky)
          }
          const exits = yield* Effect.forEach(callers, Fiber.await)
          const answered = exits.flatMap((exit, i) => Exit.isSuccess(exit) ? [i] : [])
          const received = actor.received.map(Number)
          assert.strictEqual(new Set(received).size, received.length)
          for (const i of answered) assert.include(received, i)
          // A mailbox full of requests that nobody waits for any more must not stay so.
          yield* actor.add(100)
        }
      }))
  })
}
