import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as EventLog from "../src/internal/coordinator/eventLog.ts"
import type * as JobConfig from "../src/JobConfig.ts"
import { JobCoordinator } from "../src/JobCoordinator.ts"
import { type JobEvent, JobRemoved } from "../src/JobEvent.ts"
import * as JobId from "../src/JobId.ts"
import type { JobInfo } from "../src/JobInfo.ts"
import * as JobSpec from "../src/JobSpec.ts"
import { settle, simulated, textOf, until } from "./utils.ts"

const scripts = {
  runs: {},
  ends: { output: [{ data: "bye" }], end: { code: 0 } },
  dies: { end: { at: "1 minute", signal: "SIGSEGV" } },
  missing: { failsToStart: "NotFound" }
} as const

const simulate = (partial?: JobConfig.PartialSettings) => Effect.provide(simulated(scripts, partial))

const start = (command: keyof typeof scripts, options: Partial<JobSpec.Options> = {}) =>
  Effect.flatMap(JobCoordinator, (jobs) => jobs.start(JobSpec.make({ command, ...options })))

const ended = Effect.gen(function*() {
  const jobs = yield* JobCoordinator
  const id = yield* start("ends")
  yield* jobs.wait(id)
  return id
})

const ids = Effect.flatMap(JobCoordinator, (jobs) => Effect.map(jobs.list(), (infos) => infos.map((info) => info.id)))

/** An event in short: what happened to whom. */
const brief = (event: JobEvent) => [event._tag, event._tag === "JobRemoved" ? event.id : event.info.id] as const

/** Listens until the scope closes; what it heard so far. */
const listen = Effect.gen(function*() {
  const jobs = yield* JobCoordinator
  const heard: Array<JobEvent> = []
  yield* Effect.forkScoped(Stream.runForEach(jobs.events, (event) => Effect.sync(() => heard.push(event))))
  yield* settle
  return heard
})

describe("info", () => {
  it.effect("tells what a job is, from its start to its end", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      yield* TestClock.adjust("1 second")
      const spec = JobSpec.make({ command: "dies", labels: { a: "b" } })
      const id = yield* jobs.start(spec)
      const times = (info: JobInfo) => [
        info.startedAt.epochMillis,
        ...[info.exitedAt, info.endedAt].map((_) => Option.map(_, (time) => time.epochMillis))
      ]
      const before = yield* jobs.info(id)
      assert.deepStrictEqual<unknown>([before.id, before.spec, before.pid], [id, spec, 1000])
      assert.deepStrictEqual(times(before), [1000, Option.none(), Option.none()])
      yield* TestClock.adjust("1 minute")
      yield* jobs.wait(id)
      const after = yield* jobs.info(id)
      assert.deepStrictEqual(times(after), [1000, Option.some(61_000), Option.some(61_000)])
      assert.deepStrictEqual(after.stopReason, Option.none())
      // What was told before does not change.
      assert.strictEqual(before.status._tag, "Running")
    }).pipe(simulate()))
})

describe("retention", () => {
  it.effect("an ended job stays for its time, and goes without anybody asking", () =>
    Effect.gen(function*() {
      const running = yield* start("runs")
      const heard = yield* listen
      const first = yield* ended
      yield* TestClock.adjust("30 minutes")
      const second = yield* ended
      yield* TestClock.adjust("29 minutes")
      yield* settle
      assert.deepStrictEqual(yield* ids, [running, first, second])
      yield* TestClock.adjust("1 minute")
      yield* until(() => heard.length === 6)
      assert.deepStrictEqual(yield* ids, [running, second])
      assert.deepStrictEqual(heard.at(-1)?._tag, "JobRemoved")
      yield* TestClock.adjust("30 minutes")
      yield* until(() => heard.length === 7)
      assert.deepStrictEqual(yield* ids, [running])
      yield* TestClock.adjust("1000 days")
      assert.deepStrictEqual(yield* ids, [running])
    }).pipe(Effect.scoped, simulate()))

  it.effect("at most so many stay, the oldest leaving first", () =>
    Effect.gen(function*() {
      const all: Array<JobId.JobId> = []
      for (let i = 0; i < 10; i++) all.push(yield* ended)
      assert.deepStrictEqual(yield* ids, all.slice(-3))
      const jobs = yield* JobCoordinator
      yield* jobs.remove(all[8] as JobId.JobId)
      const next = yield* ended
      assert.deepStrictEqual(yield* ids, [all[7], all[9], next])
    }).pipe(simulate({ retention: { maxEnded: 3 } })))

  it.effect("the oldest end leaves first, not the oldest start", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const long = yield* start("runs")
      const short = yield* ended
      yield* jobs.stop(long)
      yield* ended
      assert.isFalse((yield* ids).includes(short))
      assert.isTrue((yield* ids).includes(long))
    }).pipe(simulate({ retention: { maxEnded: 2 } })))

  it.effect("with no time to live a job goes as it ends, and who waits or reads gets all of it", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* start("dies")
      const wait = yield* Effect.fork(jobs.wait(id))
      const output = yield* Effect.fork(textOf(jobs.output(id)))
      yield* settle
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* Fiber.join(wait))._tag, "Killed")
      assert.strictEqual(yield* Fiber.join(output), "")
      yield* settle
      assert.deepStrictEqual(yield* ids, [])
      assert.strictEqual((yield* Effect.flip(jobs.status(id)))._tag, "JobNotFound")
    }).pipe(simulate({ retention: { timeToLive: 0 } })))

  it.effect("an endless time to live keeps them", () =>
    Effect.gen(function*() {
      const id = yield* ended
      yield* TestClock.adjust("10000 days")
      assert.deepStrictEqual(yield* ids, [id])
    }).pipe(simulate({ retention: { timeToLive: Infinity } })))

  it.effect("a subscriber of a removed job reads on to the end", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* ended
      const pull = yield* jobs.pull(id)
      yield* jobs.remove(id)
      assert.strictEqual(Buffer.concat((yield* pull).map((_) => _.bytes)).toString(), "bye")
      assert.isTrue(Option.isNone(yield* Effect.flip(pull)))
      assert.strictEqual((yield* Effect.flip(textOf(jobs.output(id))))._tag, "JobNotFound")
    }).pipe(Effect.scoped, simulate()))
})

describe("events", () => {
  it.effect("first the jobs as they are, in the order of their starts, then every change", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const one = yield* start("runs")
      const two = yield* ended
      const heard = yield* listen
      yield* until(() => heard.length === 2)
      assert.deepStrictEqual(heard.map(brief), [["JobStarted", one], ["JobStarted", two]])
      const [first, second] = heard
      assert.isTrue(first?._tag === "JobStarted" && Option.isNone(first.info.endedAt))
      assert.isTrue(second?._tag === "JobStarted" && Option.isSome(second.info.endedAt))
      yield* jobs.stop(one)
      yield* jobs.remove(two)
      const three = yield* start("runs")
      yield* Effect.flip(start("missing"))
      yield* until(() => heard.length === 5)
      assert.deepStrictEqual(heard.slice(2).map(brief), [["JobEnded", one], ["JobRemoved", two], ["JobStarted", three]])
    }).pipe(Effect.scoped, simulate()))

  it.effect("between the snapshot and the changes there is neither a gap nor a duplicate, whenever one listens", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const random = Random.make("events")
      // With a job that is always there, the first chunk of a listener is the snapshot.
      yield* start("runs")
      const listeners: Array<Array<Chunk.Chunk<JobEvent>>> = []
      const turns = (max: number) =>
        Effect.flatMap(
          random.nextIntBetween(0, max),
          (n) => Effect.forEach(Array.from({ length: n }), () => Effect.yieldNow(), { discard: true })
        )
      const lives = yield* Effect.fork(Effect.forEach(Array.from({ length: 300 }), () =>
        Effect.gen(function*() {
          yield* turns(200)
          const id = yield* start((yield* random.nextBoolean) ? "ends" : "runs")
          yield* turns(100)
          yield* Effect.ignore(jobs.stop(id))
          yield* turns(100)
          if (yield* random.nextBoolean) yield* jobs.remove(id)
        }), { concurrency: 20, discard: true }))
      while (lives.unsafePoll() === null) {
        const heard: Array<Chunk.Chunk<JobEvent>> = []
        listeners.push(heard)
        yield* Effect.forkScoped(
          Stream.runForEachChunk(jobs.events, (events) => Effect.sync(() => void heard.push(events)))
        )
        for (let turn = 0; turn < 100; turn++) yield* Effect.yieldNow()
      }
      yield* Fiber.join(lives)
      assert.isAbove(listeners.length, 3)
      const last = yield* start("runs")
      const heardAll = (heard: ReadonlyArray<Chunk.Chunk<JobEvent>>) =>
        heard.some((events) => Chunk.some(events, (event) => brief(event)[1] === last))
      yield* until(() => listeners.every(heardAll))

      const now = new Map(
        (yield* jobs.list()).map((info) => [info.id, info.status._tag === "Running" ? "runs" : "ended"])
      )
      for (const [snapshot, ...changes] of listeners) {
        const told = new Map<JobId.JobId, string>()
        for (const event of snapshot ?? []) {
          assert.isTrue(event._tag === "JobStarted")
          if (event._tag !== "JobStarted") continue
          assert.isFalse(told.has(event.info.id))
          told.set(event.info.id, Option.isSome(event.info.endedAt) ? "ended" : "runs")
        }
        for (const event of changes.flatMap((events) => Chunk.toReadonlyArray(events))) {
          const [tag, id] = brief(event)
          const before = tag === "JobStarted" ? undefined : tag === "JobEnded" ? "runs" : "ended"
          assert.strictEqual(told.get(id), before, `before ${tag}`)
          if (tag === "JobStarted") told.set(id, "runs")
          else if (tag === "JobEnded") told.set(id, "ended")
          else told.delete(id)
        }
        assert.deepStrictEqual(new Map(Array.from(told).sort()), new Map(Array.from(now).sort()))
      }
    }).pipe(Effect.scoped, simulate()))

  it.effect("a listener may be so far behind, and misses nothing; one that is further fails with EventsMissed", () =>
    Effect.gen(function*() {
      const log = new EventLog.EventLog(yield* Effect.runtime<never>(), yield* Effect.clock)
      const publish = (count: number) => {
        for (let i = 0; i < count; i++) log.publish(() => new JobRemoved({ id: JobId.make() }))
      }
      for (const before of [0, 1, 5, EventLog.maxBehind - 1, EventLog.maxBehind, 3 * EventLog.maxBehind + 7]) {
        const slow = log.listen([])
        publish(before)
        const listener = log.listen([])
        publish(EventLog.maxBehind)
        assert.strictEqual(Chunk.size(yield* listener.pull), EventLog.maxBehind)
        publish(1)
        assert.strictEqual(Chunk.size(yield* listener.pull), 1)
        assert.deepInclude(Option.getOrThrow(yield* Effect.flip(slow.pull)), {
          _tag: "EventsMissed",
          missed: before + EventLog.maxBehind + 1
        })
        log.unlisten(slow)
        log.unlisten(listener)
      }
    }))

  it.effect("a log keeps no more than its listeners have not had yet", () =>
    Effect.gen(function*() {
      const log = new EventLog.EventLog(yield* Effect.runtime<never>(), yield* Effect.clock)
      let made = 0
      const publish = (count: number) => {
        for (let i = 0; i < count; i++) {
          log.publish(() => {
            made++
            return new JobRemoved({ id: JobId.make() })
          })
        }
      }
      publish(10)
      assert.strictEqual(made, 0)
      const listener = log.listen([])
      for (let round = 0; round < 100; round++) {
        publish(100)
        assert.strictEqual(Chunk.size(yield* listener.pull), 100)
      }
      assert.isAtMost(log.size, 512)
      log.unlisten(listener)
      assert.strictEqual(log.size, 0)
    }))

  it.live("one JobEnded for each job, though many end while they are announced", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const count = 2000
      const ended = new Map<JobId.JobId, number>()
      const listener = yield* jobs.events.pipe(
        Stream.filter((event) => event._tag === "JobEnded"),
        Stream.tap(({ info: { id } }) => Effect.sync(() => ended.set(id, (ended.get(id) ?? 0) + 1))),
        Stream.takeUntil(() => ended.size === count),
        Stream.runDrain,
        Effect.fork
      )
      yield* settle
      const runOne = Effect.flatMap(jobs.start(JobSpec.make({ command: "quick" })), jobs.wait)
      yield* Effect.replicateEffect(runOne, count, { concurrency: 200, discard: true })
      yield* Fiber.join(listener)
      assert.deepStrictEqual(new Set(ended.values()), new Set([1]))
    }).pipe(
      Effect.provide(simulated({ quick: { end: { at: "1 millis", code: 0 } } })),
      // A log takes a fiber, in which more can happen.
      Effect.provide(Logger.replace(Logger.defaultLogger, Logger.none)),
      Logger.withMinimumLogLevel(LogLevel.Debug)
    ))

  it.effect("they end with the coordinator", () =>
    Effect.gen(function*() {
      const events = yield* Effect.gen(function*() {
        const jobs = yield* JobCoordinator
        yield* start("runs")
        const fiber = yield* Effect.forkDaemon(Stream.runCollect(jobs.events))
        yield* settle
        return fiber
      }).pipe(simulate())
      assert.deepStrictEqual(
        Chunk.toReadonlyArray(yield* Fiber.join(events)).map((_) => _._tag),
        ["JobStarted", "JobEnded"]
      )
    }))
})
