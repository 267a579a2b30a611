import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import { JobCoordinator, type StopOptions } from "../src/JobCoordinator.ts"
import * as JobSpec from "../src/JobSpec.ts"
import { Exited, Killed, type Signal } from "../src/JobStatus.ts"
import type * as SimulatedProcesses from "../src/SimulatedProcesses.ts"
import { settle, simulated, trace } from "./utils.ts"

const second = 1000
const minute = 60 * second
const day = 24 * 60 * minute

/** A coordinator whose only program is `p`. */
const simulate = (script: SimulatedProcesses.Script) => Effect.provide(simulated({ p: script }))
const p = (options: Partial<JobSpec.Options> = {}) => JobSpec.make({ command: "p", ...options })

/** The signals that were sent, and when. */
const signals = Effect.map(
  trace,
  (entries) => entries.flatMap((entry) => entry._tag === "Signalled" ? [[entry.at, entry.signal]] : [])
)

const stopReason = Effect.fn(function*() {
  const jobs = yield* JobCoordinator
  const [info] = yield* jobs.list()
  return info?.stopReason
})

const ignoresTerm = { ignores: ["SIGTERM"] } as const
const killed = (signal: Signal) => new Killed({ signal })

/** What is forked now runs until it waits for the clock. */
const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.zipLeft(Effect.fork(effect), settle)

describe("the signals of a stop, and when they are sent", () => {
  it.effect("SIGTERM and SIGCONT, and nothing more to a job that obeys", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(p())
      assert.deepStrictEqual(yield* jobs.stop(id), killed("SIGTERM"))
      yield* TestClock.adjust("1 day")
      assert.deepStrictEqual(yield* trace, [
        { at: 0, _tag: "Spawned", pid: 1000, command: "p" },
        { at: 0, _tag: "Signalled", pid: 1000, command: "p", signal: "SIGTERM" },
        { at: 0, _tag: "Exited", pid: 1000, command: "p", signal: "SIGTERM" }
      ])
    }).pipe(simulate({})))

  it.effect("what is no grace period is none that was given: never SIGKILL at once", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      for (const nonsense of [NaN, -1, -5n, "-5 seconds", "1e3 seconds", [NaN, 0], {}, "soon", null]) {
        const id = yield* jobs.start(p({ stop: { gracePeriod: "1 hour" } }))
        const stop = yield* fork(jobs.stop(id, { gracePeriod: nonsense as Duration.DurationInput }))
        yield* TestClock.adjust("59 minutes")
        assert.strictEqual((yield* jobs.status(id))._tag, "Running", String(nonsense))
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(yield* Fiber.join(stop), killed("SIGKILL"))
      }
    }).pipe(simulate(ignoresTerm)))

  it.effect("deadlines are on a clock that does not jump: the time of day may be set meanwhile", () =>
    Effect.gen(function*() {
      for (const jump of [day, -day]) {
        const clock = yield* Effect.clock
        let ahead = 0
        const jumping: Clock.Clock = {
          [Clock.ClockTypeId]: Clock.ClockTypeId,
          unsafeCurrentTimeMillis: () => clock.unsafeCurrentTimeMillis() + ahead,
          unsafeCurrentTimeNanos: () => clock.unsafeCurrentTimeNanos(),
          currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + ahead),
          currentTimeNanos: clock.currentTimeNanos,
          sleep: (duration) => clock.sleep(duration)
        }
        const context = yield* Effect.withClock(Layer.build(simulated({ p: ignoresTerm })), jumping)
        yield* Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const id = yield* jobs.start(p())
          yield* fork(jobs.stop(id, { gracePeriod: "1 hour" }))
          ahead = jump
          const shorter = yield* fork(jobs.stop(id, { gracePeriod: "1 minute" }))
          yield* TestClock.adjust("1 minute")
          assert.deepStrictEqual(yield* Fiber.join(shorter), killed("SIGKILL"))
          // Nor do ended jobs leave before their time, or stay.
          yield* TestClock.adjust("59 minutes")
          assert.lengthOf(yield* jobs.list(), 1)
          yield* TestClock.adjust("1 minute")
          yield* settle
          assert.lengthOf(yield* jobs.list(), 0)
        }).pipe(Effect.provide(context))
      }
    }).pipe(Effect.scoped))

  it.effect("a grace period of five minutes, then SIGKILL", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(p({ stop: { gracePeriod: "5 minutes" } }))
      yield* TestClock.adjust("1 second")
      const stop = yield* fork(jobs.stop(id))
      yield* TestClock.adjust(5 * minute - 1)
      yield* settle
      assert.isNull(stop.unsafePoll())
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* Fiber.join(stop), killed("SIGKILL"))
      assert.deepStrictEqual(yield* trace, [
        { at: 0, _tag: "Spawned", pid: 1000, command: "p" },
        { at: second, _tag: "Signalled", pid: 1000, command: "p", signal: "SIGTERM" },
        { at: second, _tag: "Signalled", pid: 1000, command: "p", signal: "SIGCONT" },
        { at: second + 5 * minute, _tag: "Signalled", pid: 1000, command: "p", signal: "SIGKILL" },
        { at: second + 5 * minute, _tag: "Exited", pid: 1000, command: "p", signal: "SIGKILL" }
      ])
    }).pipe(simulate(ignoresTerm)))

  it.effect("a timeout of a day, then a stop like any other", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(p({ timeout: "1 day" }))
      yield* TestClock.adjust(day - 1)
      yield* settle
      assert.strictEqual((yield* jobs.status(id))._tag, "Running")
      yield* TestClock.adjust(1)
      yield* settle
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* jobs.wait(id), killed("SIGKILL"))
      assert.deepStrictEqual(yield* signals, [[day, "SIGTERM"], [day, "SIGCONT"], [day + 5 * second, "SIGKILL"]])
      assert.deepStrictEqual(yield* stopReason(), Option.some("timeout" as const))
    }).pipe(simulate(ignoresTerm)))

  it.effect("a job that ends before its timeout is not touched", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(p({ timeout: "1 hour" }))
      yield* TestClock.adjust("59 minutes")
      assert.deepStrictEqual(yield* jobs.wait(id), new Exited({ code: 0 }))
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(yield* signals, [])
      assert.deepStrictEqual(yield* stopReason(), Option.none())
    }).pipe(simulate({ end: { at: "59 minutes", code: 0 } })))

  it.effect("the signal and the grace period of the call, else of the spec, else of the settings", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const cases: ReadonlyArray<readonly [JobSpec.Options["stop"], StopOptions | undefined, Signal, number]> = [
        [undefined, undefined, "SIGTERM", 5 * second],
        [undefined, {}, "SIGTERM", 5 * second],
        [{}, {}, "SIGTERM", 5 * second],
        [undefined, { signal: "SIGHUP" }, "SIGHUP", 5 * second],
        [undefined, { gracePeriod: "1 second" }, "SIGTERM", second],
        [{ signal: "SIGINT" }, undefined, "SIGINT", 5 * second],
        [{ gracePeriod: "2 seconds" }, undefined, "SIGTERM", 2 * second],
        [{ signal: "SIGINT", gracePeriod: "2 seconds" }, { signal: "SIGHUP" }, "SIGHUP", 2 * second],
        [{ signal: "SIGINT", gracePeriod: "2 seconds" }, { gracePeriod: "1 second" }, "SIGINT", second]
      ]
      for (const [policy, options, signal, gracePeriod] of cases) {
        const before = yield* signals
        const begin = yield* Clock.currentTimeMillis
        const stop = yield* fork(Effect.flatMap(jobs.start(p({ stop: policy })), (id) => jobs.stop(id, options)))
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.join(stop)
        assert.deepStrictEqual(
          (yield* signals).slice(before.length),
          [[begin, signal], [begin, "SIGCONT"], [begin + gracePeriod, "SIGKILL"]]
        )
      }
    }).pipe(simulate({ ignores: ["SIGTERM", "SIGINT", "SIGHUP"] })))

  it.effect("SIGKILL is at once, and so is no grace period", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      yield* jobs.stop(yield* jobs.start(p()), { signal: "SIGKILL" })
      yield* jobs.stop(yield* jobs.start(p()), { signal: "SIGKILL", gracePeriod: "1 hour" })
      yield* jobs.stop(yield* jobs.start(p()), { gracePeriod: 0 })
      assert.deepStrictEqual(yield* signals, [
        [0, "SIGKILL"],
        [0, "SIGKILL"],
        [0, "SIGTERM"],
        [0, "SIGCONT"],
        [0, "SIGKILL"]
      ])
    }).pipe(simulate(ignoresTerm)))

  it.effect("a stopped job is continued, so that it can obey", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(p())
      const pause = yield* fork(jobs.stop(id, { signal: "SIGSTOP", gracePeriod: "1 hour" }))
      assert.deepStrictEqual(yield* jobs.stop(id), killed("SIGTERM"))
      assert.deepStrictEqual(yield* Fiber.join(pause), killed("SIGTERM"))
      assert.deepStrictEqual(yield* signals, [[0, "SIGSTOP"], [0, "SIGCONT"], [0, "SIGTERM"]])
    }).pipe(simulate({})))

  it.effect("an endless grace period waits for the job", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(p())
      const stop = yield* fork(jobs.stop(id, { gracePeriod: Duration.infinity }))
      yield* TestClock.adjust("29 days")
      yield* settle
      assert.isNull(stop.unsafePoll())
      yield* TestClock.adjust("1 day")
      assert.deepStrictEqual(yield* Fiber.join(stop), new Exited({ code: 3 }))
      assert.deepStrictEqual(yield* signals, [[0, "SIGTERM"], [0, "SIGCONT"]])
    }).pipe(simulate({ ...ignoresTerm, end: { at: "30 days", code: 3 } })))
})

describe("several who stop one job", () => {
  it.effect("share one stop and one end", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(p())
      const stops = yield* Effect.forEach([1, 2, 3], () => fork(jobs.stop(id)))
      yield* TestClock.adjust("5 seconds")
      for (const stop of stops) assert.deepStrictEqual(yield* Fiber.join(stop), killed("SIGKILL"))
      assert.deepStrictEqual(yield* signals, [[0, "SIGTERM"], [0, "SIGCONT"], [5 * second, "SIGKILL"]])
    }).pipe(simulate(ignoresTerm)))

  it.effect("a later call can bring the deadline forward, and never puts it off", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(p())
      const first = yield* fork(jobs.stop(id, { gracePeriod: "1 hour" }))
      yield* TestClock.adjust("1 minute")
      const shorter = yield* fork(jobs.stop(id, { gracePeriod: "10 minutes" }))
      yield* TestClock.adjust("1 minute")
      const longer = yield* fork(jobs.stop(id, { gracePeriod: "10 hours" }))
      yield* TestClock.adjust(9 * minute - 1)
      yield* settle
      assert.isNull(first.unsafePoll())
      yield* TestClock.adjust(1)
      for (const stop of [first, shorter, longer]) assert.deepStrictEqual(yield* Fiber.join(stop), killed("SIGKILL"))
      assert.deepStrictEqual(yield* signals, [[0, "SIGTERM"], [0, "SIGCONT"], [11 * minute, "SIGKILL"]])
    }).pipe(simulate(ignoresTerm)))

  it.effect("another signal is sent as well, the same one not twice", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(p())
      yield* fork(jobs.stop(id, { gracePeriod: "1 hour" }))
      yield* TestClock.adjust("1 second")
      yield* fork(jobs.stop(id, { signal: "SIGINT", gracePeriod: "1 hour" }))
      yield* TestClock.adjust("1 second")
      yield* fork(jobs.stop(id, { signal: "SIGTERM", gracePeriod: "1 hour" }))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* jobs.stop(id, { signal: "SIGQUIT" }), killed("SIGQUIT"))
      assert.deepStrictEqual(yield* signals, [
        [0, "SIGTERM"],
        [0, "SIGCONT"],
        [second, "SIGINT"],
        [second, "SIGCONT"],
        [3 * second, "SIGQUIT"]
      ])
    }).pipe(simulate({ ignores: ["SIGTERM", "SIGINT"] })))

  it.effect("SIGKILL ends the patience of all", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(p())
      const patient = yield* fork(jobs.stop(id, { gracePeriod: "1 hour" }))
      assert.deepStrictEqual(yield* jobs.stop(id, { signal: "SIGKILL" }), killed("SIGKILL"))
      assert.deepStrictEqual(yield* Fiber.join(patient), killed("SIGKILL"))
    }).pipe(simulate(ignoresTerm)))

  it.effect("a stop goes on when its caller is interrupted", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(p())
      const stop = yield* fork(jobs.stop(id))
      yield* Fiber.interrupt(stop)
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* jobs.wait(id), killed("SIGKILL"))
    }).pipe(simulate(ignoresTerm)))
})

describe("the group", () => {
  it.effect("is stopped when its leader has left, with a grace period of its own", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(p())
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.deepStrictEqual(yield* jobs.status(id), new Exited({ code: 0 }))
      const info = yield* jobs.info(id)
      assert.isTrue(Option.isSome(info.exitedAt))
      assert.isTrue(Option.isNone(info.endedAt))
      assert.strictEqual((yield* Effect.flip(jobs.remove(id)))._tag, "JobStillRunning")
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* jobs.wait(id), new Exited({ code: 0 }))
      assert.deepStrictEqual(yield* signals, [[second, "SIGTERM"], [second, "SIGCONT"], [6 * second, "SIGKILL"]])
      assert.deepStrictEqual(yield* stopReason(), Option.none())
    }).pipe(simulate({ end: { at: "1 second", code: 0 }, children: [{}, ignoresTerm] })))

  it.effect("a stop while only children are left joins it, and is told the leader's status", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(p())
      yield* settle
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* jobs.stop(id, { signal: "SIGINT" }), new Exited({ code: 0 }))
      assert.deepStrictEqual(yield* signals, [
        [0, "SIGTERM"],
        [0, "SIGCONT"],
        [second, "SIGINT"]
      ])
      assert.deepStrictEqual(yield* stopReason(), Option.none())
    }).pipe(simulate({ end: { code: 0 }, children: [ignoresTerm] })))

  it.effect("a stop joins while an escaped process holds a pipe, and nobody is signalled any more", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(p({ drainTimeout: "10 seconds" }))
      yield* settle
      const stop = yield* fork(jobs.stop(id))
      yield* TestClock.adjust("9999 millis")
      yield* settle
      assert.isNull(stop.unsafePoll())
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* Fiber.join(stop), new Exited({ code: 0 }))
      assert.deepStrictEqual(yield* signals, [])
      const info = yield* jobs.info(id)
      assert.isTrue(info.output.cut)
      assert.deepStrictEqual(info.exitedAt.pipe(Option.map((_) => _.epochMillis)), Option.some(0))
      assert.deepStrictEqual(info.endedAt.pipe(Option.map((_) => _.epochMillis)), Option.some(10 * second))
    }).pipe(simulate({ end: { code: 0 }, children: [{ escaped: true, holdsPipes: true }] })))

  it.effect("a pipe that an escaped process lets go in time is read to its end", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(p())
      yield* settle
      yield* TestClock.adjust("999 millis")
      yield* jobs.wait(id)
      const info = yield* jobs.info(id)
      assert.isFalse(info.output.cut)
      assert.strictEqual(info.output.stdoutBytes, 4)
    }).pipe(simulate({
      end: { code: 0 },
      children: [{ escaped: true, output: [{ at: "500 millis", data: "late" }], end: { at: "999 millis", code: 0 } }]
    })))
})

describe("stopReason is the first cause", () => {
  it.effect("caller", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(p({ timeout: "1 second" }))
      const stop = yield* fork(jobs.stop(id))
      assert.deepStrictEqual(yield* stopReason(), Option.some("caller" as const))
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(stop)
      assert.deepStrictEqual(yield* stopReason(), Option.some("caller" as const))
    }).pipe(simulate(ignoresTerm)))

  it.effect("timeout", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(p({ timeout: "1 second" }))
      yield* TestClock.adjust("1 second")
      yield* settle
      const stop = yield* fork(jobs.stop(id))
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(stop)
      assert.deepStrictEqual(yield* stopReason(), Option.some("timeout" as const))
    }).pipe(simulate(ignoresTerm)))

  it.effect("limit, when a signal of the kernel proves it", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      yield* jobs.wait(yield* jobs.start(p({ limits: { cpuTime: "1 second" } })))
      assert.deepStrictEqual(yield* stopReason(), Option.some("limit" as const))
    }).pipe(simulate({ end: { signal: "SIGXCPU" } })))

  it.effect("none for a job that left by itself, whatever it died of", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      yield* jobs.wait(yield* jobs.start(p({ timeout: "1 second" })))
      assert.deepStrictEqual(yield* stopReason(), Option.none())
    }).pipe(simulate({ end: { signal: "SIGXCPU" } })))

  it.effect("shutdown, as the last event tells", () =>
    Effect.gen(function*() {
      const reasons: Array<unknown> = []
      const listening = yield* Effect.gen(function*() {
        const jobs = yield* JobCoordinator
        yield* jobs.start(p())
        const listening = yield* Effect.forkDaemon(
          Stream.runForEach(jobs.events, (event) =>
            Effect.sync(() => {
              if (event._tag === "JobEnded") reasons.push(event.info.stopReason)
            }))
        )
        yield* settle
        return listening
      }).pipe(simulate({}))
      yield* Fiber.join(listening)
      assert.deepStrictEqual(reasons, [Option.some("shutdown")])
    }))
})
