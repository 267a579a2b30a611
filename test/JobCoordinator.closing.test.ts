import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Supervisor from "effect/Supervisor"
import * as TestClock from "effect/TestClock"
import { JobCoordinator } from "../src/JobCoordinator.ts"
import { CoordinatorStopped } from "../src/JobError.ts"
import * as JobSpec from "../src/JobSpec.ts"
import { Killed } from "../src/JobStatus.ts"
import { type Process, ProcessSpawner } from "../src/ProcessSpawner.ts"
import * as SimulatedProcesses from "../src/SimulatedProcesses.ts"
import { over, settle, simulated, simulatedAlive, textOf, trace } from "./utils.ts"

/** Builds a layer that the test itself closes. `fibers` are those that it runs. */
const open = <A>(layer: Layer.Layer<A | JobCoordinator>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const supervisor = yield* Supervisor.track
    const context = yield* Effect.supervised(Layer.buildWithScope(layer, scope), supervisor)
    return {
      context,
      jobs: Context.get(context, JobCoordinator),
      close: Scope.close(scope, Exit.void),
      fibers: Effect.zipRight(settle, Effect.map(supervisor.value, (fibers) => fibers.length))
    }
  })

const isStopped = (exit: Exit.Exit<unknown, unknown>, what?: string) =>
  assert.isTrue(
    Exit.isFailure(exit) && Equal.equals(Cause.failureOption(exit.cause), Option.some(new CoordinatorStopped())),
    what
  )
const killed = new Killed({ signal: "SIGKILL" })

const scripts = {
  stubborn: { output: [{ data: "hello" }], ignores: ["SIGTERM"] },
  obedient: { output: [{ data: "hello" }] },
  done: { output: [{ data: "bye" }], end: { code: 0 } },
  escapee: { children: [{ escaped: true, holdsPipes: true }] }
} as const

/** A process that no signal reaches. */
const unkillable: Process = {
  pid: 1,
  signal: () => Effect.void,
  isGone: Effect.succeed(false),
  awaitGone: Effect.never,
  resumeOutput: Effect.void,
  cutOutput: Effect.succeed(true),
  writeInput: () => Effect.succeed(true),
  closeInput: Effect.void
}

const run = (command: keyof typeof scripts, options: Partial<JobSpec.Options> = {}) =>
  JobSpec.make({ command, ...options })

describe("closing the layer", () => {
  it.effect("gives every pending call what it is owed, and none hangs", () =>
    Effect.gen(function*() {
      const { close, context, jobs } = yield* open(simulated(scripts))
      const id = yield* jobs.start(run("stubborn"))

      const wait = yield* Effect.fork(jobs.wait(id))
      const stop = yield* Effect.fork(jobs.stop(id, { gracePeriod: "1 hour" }))
      const output = yield* Effect.fork(textOf(jobs.output(id)))
      const bytes = yield* Effect.fork(Stream.runCount(jobs.stdout(id)))
      const errors = yield* Effect.fork(Stream.runCount(jobs.stderr(id, { from: "end" })))
      const events = yield* Effect.fork(Stream.runCollect(jobs.events))
      const scope = yield* Scope.make()
      const frozen = yield* Scope.extend(jobs.pull(id, { whenBehind: "block" }), scope)
      yield* settle

      const closing = yield* Effect.fork(close)
      yield* settle
      assert.isNull(closing.unsafePoll())
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(closing)

      assert.deepStrictEqual(yield* Fiber.join(wait), killed)
      assert.deepStrictEqual(yield* Fiber.join(stop), killed)
      assert.strictEqual(yield* Fiber.join(output), "hello")
      assert.strictEqual(yield* Fiber.join(bytes), 1)
      assert.strictEqual(yield* Fiber.join(errors), 0)
      assert.deepStrictEqual(
        Chunk.toReadonlyArray(yield* Fiber.join(events)).map((event) => event._tag),
        ["JobStarted", "JobEnded"]
      )
      // A reader that was not waited for goes on, and comes to the same end.
      assert.lengthOf(yield* frozen, 1)
      assert.strictEqual((yield* Effect.flip(frozen))._tag, "None")
      yield* Scope.close(scope, Exit.void)

      assert.deepStrictEqual((yield* trace.pipe(Effect.provide(context))).map((_) => [_.at, _.signal]), [
        [0, undefined],
        [0, "SIGTERM"],
        [0, "SIGCONT"],
        [5000, "SIGKILL"],
        [5000, "SIGKILL"]
      ])
    }))

  it.effect("calls that come once it has begun fail with CoordinatorStopped, before its end and after", () =>
    Effect.gen(function*() {
      const { close, context, jobs } = yield* open(simulated(scripts, { mailboxCapacity: 1 }))
      const id = yield* jobs.start(run("stubborn"))
      const calls: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
        jobs.start(run("obedient")),
        jobs.stop(id),
        jobs.status(id),
        jobs.wait(id),
        jobs.info(id),
        jobs.list(),
        jobs.remove(id),
        Stream.runDrain(jobs.output(id)),
        Effect.scoped(jobs.pull(id)),
        Stream.runDrain(jobs.stdout(id)),
        Stream.runDrain(jobs.stderr(id)),
        Stream.run(Stream.make(Uint8Array.of(1)), jobs.input(id)),
        Stream.runDrain(jobs.events)
      ]
      const closing = yield* Effect.fork(close)
      yield* settle
      const exits = yield* Effect.forEach(calls, Effect.exit, { concurrency: "unbounded" })
      exits.forEach((exit, index) => isStopped(exit, `call ${index}`))
      assert.isNull(closing.unsafePoll())
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(closing)

      for (const call of calls) isStopped(yield* Effect.exit(call))
      assert.strictEqual((yield* simulatedAlive.pipe(Effect.provide(context))).size, 0)
    }))

  it.effect("leaves no fiber behind, whatever was ended before and by it", () =>
    Effect.gen(function*() {
      const { close, fibers, jobs } = yield* open(simulated(scripts))
      yield* jobs.wait(yield* jobs.start(run("done", { timeout: "1 day" })))
      yield* jobs.start(run("obedient", { timeout: "1 day" }))
      const stubborn = yield* jobs.start(run("stubborn", { timeout: "1 day" }))
      const stop = yield* Effect.fork(jobs.stop(stubborn, { gracePeriod: "1 hour" }))
      yield* settle
      const closing = yield* Effect.fork(close)
      yield* settle
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(closing)
      yield* Fiber.join(stop)
      assert.strictEqual(yield* fibers, 0)
    }))

  it.effect("stops all jobs together, within the longest of their grace periods", () =>
    Effect.gen(function*() {
      const { close, jobs } = yield* open(simulated(scripts))
      const waits = yield* Effect.forEach([1, 3, 2], (seconds) =>
        Effect.flatMap(
          jobs.start(run("stubborn", { stop: { gracePeriod: Duration.seconds(seconds) } })),
          (id) => Effect.fork(Effect.zip(jobs.wait(id), Effect.clock))
        ))
      yield* settle
      const closing = yield* Effect.fork(close)
      yield* settle
      yield* TestClock.adjust("2 seconds")
      yield* settle
      assert.deepStrictEqual(waits.map((wait) => wait.unsafePoll() !== null), [true, false, true])
      assert.isNull(closing.unsafePoll())
      yield* TestClock.adjust("1 seconds")
      yield* Fiber.join(closing)
      yield* Effect.forEach(waits, Fiber.join)
    }))

  it.effect("waits for a pipe that an escaped process holds as long as drainTimeout says", () =>
    Effect.gen(function*() {
      const { close, jobs } = yield* open(simulated(scripts))
      const id = yield* jobs.start(run("escapee", { drainTimeout: "7 seconds" }))
      const wait = yield* Effect.fork(jobs.wait(id))
      yield* settle
      const closing = yield* Effect.fork(close)
      yield* settle
      yield* TestClock.adjust("6999 millis")
      yield* settle
      assert.isNull(closing.unsafePoll())
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* Fiber.join(wait), new Killed({ signal: "SIGTERM" }))
    }))

  it.effect("at every moment of a start: it fails with its process ended, or its job is stopped like others", () =>
    Effect.gen(function*() {
      for (let turns = 0; turns < 60; turns++) {
        const { close, context, jobs } = yield* open(simulated(scripts))
        const start = yield* Effect.fork(jobs.start(run("obedient")))
        for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow()
        yield* close
        const exit = yield* Fiber.await(start)
        if (Exit.isFailure(exit)) isStopped(exit)
        assert.strictEqual((yield* simulatedAlive.pipe(Effect.provide(context))).size, 0, `after ${turns} turns`)
      }
    }))

  it.effect("stops a job whose start was answered in the very turn in which it began", () =>
    Effect.gen(function*() {
      const { close, context, fibers, jobs } = yield* open(simulated(scripts))
      // The fiber that starts the job closes the layer before anybody else can run.
      const closing = yield* Effect.flatMap(
        jobs.start(run("stubborn", { stop: { gracePeriod: "1 minute" } })),
        () => Effect.fork(close)
      )
      yield* settle
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(closing)
      assert.strictEqual((yield* simulatedAlive.pipe(Effect.provide(context))).size, 0)
      assert.strictEqual(yield* fibers, 0)
    }))

  it.effect("a start whose process is still being made fails, and the process is ended", () =>
    Effect.gen(function*() {
      // A spawner that takes its time.
      const slow = Layer.effect(
        ProcessSpawner,
        Effect.map(ProcessSpawner, (spawner) => ({
          guarantee: spawner.guarantee,
          spawn: (spec, listener) => Effect.delay(spawner.spawn(spec, listener), "10 millis")
        }))
      ).pipe(Layer.provideMerge(SimulatedProcesses.layer(scripts)))
      const { close, context, fibers, jobs } = yield* open(over(slow))
      const start = yield* Effect.fork(jobs.start(run("stubborn")))
      yield* settle
      const closing = yield* Effect.fork(close)
      yield* settle
      yield* TestClock.adjust("10 millis")
      isStopped(yield* Fiber.await(start))
      yield* Fiber.join(closing)
      assert.deepStrictEqual((yield* trace.pipe(Effect.provide(context))).map((_) => _.signal), [
        undefined,
        "SIGKILL",
        "SIGKILL"
      ])
      assert.strictEqual(yield* fibers, 0)
    }))

  it.effect("gives up a process that nothing can end, and says so to all who wait for it", () =>
    Effect.gen(function*() {
      let released = false
      const spawner = Layer.succeed(ProcessSpawner, {
        guarantee: "group",
        spawn: (_, listener) =>
          Effect.acquireRelease(
            Effect.sync(() => {
              listener.onOutput("stdout", new TextEncoder().encode("hello"))
              return unkillable
            }),
            () =>
              Effect.sync(() => {
                released = true
              })
          )
      })
      const { close, fibers, jobs } = yield* open(over(spawner))
      const id = yield* jobs.start(run("stubborn"))
      const wait = yield* Effect.fork(jobs.wait(id))
      const stop = yield* Effect.fork(jobs.stop(id))
      const seen: Array<Uint8Array> = []
      const output = yield* Effect.fork(
        Stream.runForEach(jobs.output(id), (chunk) => Effect.sync(() => seen.push(chunk.bytes)))
      )
      const events = yield* Effect.fork(Stream.runCollect(jobs.events))
      yield* settle
      const closing = yield* Effect.fork(close)
      yield* settle
      yield* TestClock.adjust("6999 millis")
      yield* settle
      assert.isNull(closing.unsafePoll())
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closing)
      isStopped(yield* Fiber.await(wait))
      isStopped(yield* Fiber.await(stop))
      isStopped(yield* Fiber.await(output))
      assert.lengthOf(seen, 1)
      // It has not ended, so no event says that it has.
      assert.deepStrictEqual(Chunk.toReadonlyArray(yield* Fiber.join(events)).map((_) => _._tag), ["JobStarted"])
      assert.isTrue(released)
      yield* settle
      assert.strictEqual(yield* fibers, 0)
    }))

  it.effect("gives up a process that nothing can end whose start is being undone: the start fails too", () =>
    Effect.gen(function*() {
      const spawner = Layer.succeed(ProcessSpawner, {
        guarantee: "group",
        spawn: () => Effect.delay(Effect.succeed(unkillable), "50 millis")
      })
      const { close, fibers, jobs } = yield* open(over(spawner))
      const start = yield* Effect.fork(jobs.start(run("stubborn")))
      yield* settle
      const closing = yield* Effect.fork(close)
      yield* settle
      yield* TestClock.adjust("50 millis")
      yield* settle
      assert.isNull(start.unsafePoll())
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(closing)
      isStopped(yield* Fiber.await(start))
      yield* settle
      assert.strictEqual(yield* fibers, 0)
    }))
})
