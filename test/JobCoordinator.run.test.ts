import * as Command from "@effect/platform/Command"
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as JobCoordinator from "../src/JobCoordinator.ts"
import * as JobError from "../src/JobError.ts"
import * as JobSpec from "../src/JobSpec.ts"
import * as JobStatus from "../src/JobStatus.ts"
import { sh } from "./fixtures/programs.ts"
import { live, mark, settle, simulated, simulatedAlive, trace, until } from "./utils.ts"

const processes = mark()
afterAll(() => assert.deepStrictEqual(processes.alive(), []))

const { JobFailed } = JobError
const exited = (code: number) => new JobStatus.Exited({ code })
const killed = (signal: JobStatus.Signal) => new JobStatus.Killed({ signal })

const p = JobSpec.make({ command: "p" })

/** The jobs that have not ended. */
const running = Effect.flatMap(
  JobCoordinator.JobCoordinator,
  (jobs) => Effect.map(jobs.list(), (infos) => infos.filter((info) => Option.isNone(info.endedAt)).map(({ id }) => id))
)

const signals = Effect.map(
  trace,
  (entries) => entries.flatMap(({ _tag, at, pid, signal }) => _tag === "Signalled" ? [[at, pid, signal]] : [])
)

describe("run", () => {
  it.effect("gives the text of a job that exits with 0, and its id", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(JobCoordinator.run(p))
      yield* TestClock.adjust("1 hour")
      const { id, ...result } = yield* Fiber.join(fiber)
      assert.deepStrictEqual(result, { stdout: "grüße", stderr: "hm\n", status: exited(0) })
      const jobs = yield* JobCoordinator.JobCoordinator
      assert.deepStrictEqual(yield* jobs.status(id), exited(0))
    }).pipe(Effect.provide(simulated({
      p: {
        output: [
          { data: Uint8Array.of(0x67, 0x72, 0xC3) },
          { source: "stderr", data: "hm\n" },
          { at: "30 minutes", data: Uint8Array.of(0xBC, 0xC3, 0x9F, 0x65) }
        ],
        end: { at: "1 hour", code: 0 }
      }
    }))))

  it.effect("fails with how the job ended, why it was stopped, and the end of its standard error", () =>
    Effect.gen(function*() {
      const fail = (job: JobSpec.JobSpec, time: Duration.DurationInput) =>
        Effect.gen(function*() {
          const fiber = yield* Effect.fork(Effect.flip(JobCoordinator.run(job)))
          yield* TestClock.adjust(time)
          const error = yield* Fiber.join(fiber)
          assert.instanceOf(error, JobFailed)
          return error
        })
      const byItself = yield* fail(p, 0)
      assert.deepInclude(byItself, { status: exited(3), stopReason: Option.none(), stderr: "no\n" })
      assert.strictEqual(byItself.message, `Job ${byItself.id} failed: exited with code 3`)

      const late = yield* fail(JobSpec.make({ command: "hangs", timeout: "1 minute" }), "1 minute")
      assert.deepInclude(late, { status: killed("SIGTERM"), stopReason: Option.some<JobStatus.StopReason>("timeout") })
      assert.strictEqual(late.message, `Job ${late.id} failed: killed by SIGTERM (its timeout was over)`)

      const { stderr } = yield* fail(JobSpec.make({ command: "complains" }), 0)
      // Of the first character that is cut, nothing is left: 4 bytes each, less 1 for the letter.
      assert.strictEqual(stderr, "🙈".repeat(1023) + "a")
    }).pipe(Effect.provide(simulated({
      p: { output: [{ source: "stderr", data: "no\n" }, { data: "out" }], end: { code: 3 } },
      hangs: {},
      complains: { output: [{ source: "stderr", data: "🙈".repeat(100_000) + "a" }], end: { code: 1 } }
    }))))

  it.effect("fails as start does, and then nothing was made", () =>
    Effect.gen(function*() {
      assert.deepInclude(yield* Effect.flip(JobCoordinator.run(p)), { _tag: "JobStartError", reason: "NotFound" })
      const invalid = yield* Effect.flip(JobCoordinator.run(JobSpec.make({ command: "" })))
      assert.deepInclude(invalid, { _tag: "InvalidJobSpec", field: "command" })
      assert.isEmpty(yield* trace)
    }).pipe(Effect.provide(simulated({}))))

  it.effect("stops the job, and waits for its end, when it is interrupted", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(
        JobCoordinator.run(JobSpec.make({ command: "p", stop: { gracePeriod: 60_000 } }))
      )
      yield* TestClock.adjust("1 second")
      const interrupting = yield* Effect.fork(Fiber.interrupt(fiber))
      yield* TestClock.adjust("59 seconds")
      assert.isTrue(Option.isNone(yield* Fiber.poll(interrupting)))
      yield* TestClock.adjust("1 second")
      assert.isTrue(Exit.isInterrupted(yield* Fiber.join(interrupting)))
      assert.isEmpty(yield* simulatedAlive)
      assert.isEmpty(yield* running)
    }).pipe(Effect.provide(simulated({ p: { ignores: ["SIGTERM"] } }))))

  it.effect("leaves nothing when it is interrupted at any moment", () =>
    Effect.forEach(Array.from({ length: 40 }, (_, yields) => yields), (yields) =>
      Effect.gen(function*() {
        const fiber = yield* Effect.fork(JobCoordinator.run(p))
        for (let i = 0; i < yields; i++) yield* Effect.yieldNow()
        yield* Fiber.interrupt(fiber)
        assert.isEmpty(yield* simulatedAlive)
        assert.isEmpty(yield* running)
      })).pipe(Effect.provide(simulated({ p: {} }))))

  it.effect("stops a job that writes more than maxBytes", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(JobCoordinator.run(p, { maxBytes: 10 }))
      assert.deepStrictEqual(error, new JobError.OutputTooLarge({ maxBytes: 10 }))
      assert.deepStrictEqual(yield* signals, [[0, 1000, "SIGTERM"]])
      assert.isEmpty(yield* running)
    }).pipe(Effect.provide(simulated({ p: { output: [{ data: "x".repeat(11) }] } }))))

  it.effect("makes a job wait that writes faster than its log can keep, and misses nothing", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(JobCoordinator.run(p))
      yield* TestClock.adjust("1 second")
      assert.isTrue((yield* Fiber.join(fiber)).stdout === "x".repeat(1_000_000))
    }).pipe(Effect.provide(simulated(
      { p: { output: [{ at: "1 second", data: "x".repeat(1_000_000) }], end: { code: 0 } } },
      { output: { maxBytesPerJob: 100_000 } }
    ))))

  it.effect("stops a job whose output it may not read", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(JobCoordinator.run(p))
      assert.deepStrictEqual(error, new JobError.SubscriberLimitReached({ limit: 1, scope: "total" }))
      assert.deepStrictEqual(yield* running, [])
    }).pipe(
      // Somebody else has the only place.
      (body) =>
        Effect.flatMap(JobCoordinator.JobCoordinator, (jobs) =>
          Effect.gen(function*() {
            const id = yield* jobs.start(p)
            yield* jobs.pull(id)
            yield* Effect.exit(jobs.stop(id))
            yield* body
          })),
      Effect.scoped,
      Effect.provide(simulated({ p: {} }, { maxSubscribers: 1 }))
    ))

  it.effect("fails with CoordinatorStopped when the coordinator closes, and with what started that, nothing is left", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(simulated({ p: {} }), scope)
      const fiber = yield* Effect.fork(Effect.flip(Effect.provide(JobCoordinator.run(p), context)))
      yield* settle
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* Fiber.join(fiber), new JobError.CoordinatorStopped())
      assert.isEmpty(yield* Effect.provide(simulatedAlive, context))
    }))

  it.effect("succeeds for a job that ends well, though it is being stopped", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(
        simulated({ p: { ignores: ["SIGTERM"], output: [{ at: 1000, data: "done" }], end: { code: 0 } } }),
        scope
      )
      const fiber = yield* Effect.fork(Effect.provide(JobCoordinator.run(p), context))
      yield* settle
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust(1000)
      assert.strictEqual((yield* Fiber.join(fiber)).stdout, "done")
      yield* Fiber.join(closing)
    }))

  it.effect("can be tried again, after longer and longer pauses", () =>
    Effect.gen(function*() {
      const flaky = JobCoordinator.run(p).pipe(
        Effect.retry({
          times: 3,
          schedule: Schedule.exponential("1 second"),
          while: (error) => error._tag === "JobFailed"
        })
      )
      const fiber = yield* Effect.fork(flaky)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Fiber.join(fiber)).stdout, "at last")
      const starts = (yield* trace).flatMap(({ _tag, at }) => _tag === "Spawned" ? [at] : [])
      assert.deepStrictEqual(starts, [0, 1000, 3000])
    }).pipe(Effect.provide((() => {
      let runs = 0
      return simulated({
        p: () => ++runs < 3 ? { end: { code: 1 } } : { output: [{ data: "at last" }], end: { code: 0 } }
      })
    })())))

  describe("of real processes", () => {
    it.scopedLive("takes a Command, closes the input of a job that has one, and tells how others failed", () =>
      Effect.gen(function*() {
        assert.strictEqual((yield* JobCoordinator.run(Command.make("echo", "hello"))).stdout, "hello\n")
        assert.strictEqual((yield* JobCoordinator.run(JobSpec.make({ command: "cat", stdin: "pipe" }))).stdout, "")
        const failure = yield* Effect.flip(JobCoordinator.run(sh("echo oh >&2; kill -9 $$")))
        assert.deepInclude(failure, { _tag: "JobFailed", status: killed("SIGKILL"), stderr: "oh\n" })
      }).pipe(Effect.provide(live())))

    it.scopedLive("reads output that is many times larger than what its log keeps", () =>
      Effect.gen(function*() {
        const { stdout } = yield* JobCoordinator.run(sh("head -c 3000000 /dev/zero | tr '\\0' x"))
        assert.isTrue(stdout === "x".repeat(3_000_000))
      }).pipe(Effect.provide(live({ output: { maxBytesPerJob: 100_000 } }))))

    it.scopedLive("leaves nothing of a job that writes too much, or is interrupted", () =>
      Effect.gen(function*() {
        const jobs = yield* JobCoordinator.JobCoordinator
        assert.strictEqual((yield* Effect.flip(JobCoordinator.run(sh("yes & yes"))))._tag, "OutputTooLarge")
        assert.isEmpty(processes.alive())
        const fiber = yield* Effect.fork(
          JobCoordinator.run(sh("trap 'sleep 0.1; exit' TERM; echo up; while :; do sleep 0.05; done"))
        )
        yield* until(() => processes.alive().length > 1)
        const [job] = yield* running
        if (job !== undefined) yield* Stream.runHead(jobs.output(job))
        yield* Fiber.interrupt(fiber)
        assert.isEmpty(processes.alive())
      }).pipe(Effect.provide(live())))

    it.scopedLive("of a failing program is tried again as often as its schedule says", () =>
      Effect.gen(function*() {
        const jobs = yield* JobCoordinator.JobCoordinator
        const error = yield* Effect.flip(Effect.retry(JobCoordinator.run(sh("echo no >&2; exit 7")), { times: 4 }))
        assert.deepInclude(error, { _tag: "JobFailed", status: exited(7), stderr: "no\n" })
        assert.lengthOf(yield* jobs.list(), 5)
      }).pipe(Effect.provide(live())))

    it.scopedLive("fails with JobNotFound, or succeeds, where nothing is kept of ended jobs; it never hangs", () =>
      Effect.gen(function*() {
        for (const script of ["exit 0", "exit 1", "sleep 0.05", "echo a"]) {
          const exit = yield* Effect.either(JobCoordinator.run(sh(script)))
          const outcome = exit._tag === "Right" ? exit.right.status._tag : exit.left._tag
          assert.include(["Exited", "JobFailed", "JobNotFound"], outcome)
        }
      }).pipe(Effect.provide(live({ retention: { maxEnded: 0 } }))))
  })
})

describe("startScoped", () => {
  it.effect("stops the job, and waits for its end, when the scope closes", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* Scope.extend(JobCoordinator.startScoped(p, { signal: "SIGINT", gracePeriod: "10 seconds" }), scope)
      yield* TestClock.adjust("1 second")
      assert.lengthOf(yield* running, 1)
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(closing)
      assert.isEmpty(yield* running)
      assert.deepStrictEqual((yield* signals).slice(0, 1), [[1000, 1000, "SIGINT"]])
      assert.deepInclude((yield* trace).at(-1), { at: 11_000, _tag: "Exited", signal: "SIGKILL" })
    }).pipe(Effect.provide(simulated({ p: { ignores: ["SIGINT"] } }))))

  it.effect("does not mind a job that has ended or was removed before", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator.JobCoordinator
      yield* Effect.scoped(Effect.flatMap(JobCoordinator.startScoped(p), jobs.wait))
      yield* Effect.scoped(Effect.gen(function*() {
        const id = yield* JobCoordinator.startScoped(p)
        yield* jobs.wait(id)
        yield* jobs.remove(id)
      }))
    }).pipe(Effect.provide(simulated({ p: { end: { code: 1 } } }))))

  it.effect("does not mind a coordinator that has been closed before", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const coordinator = yield* Scope.make()
      const context = yield* Layer.buildWithScope(simulated({ p: {} }), coordinator)
      yield* Scope.extend(Effect.provide(JobCoordinator.startScoped(p), context), scope)
      yield* Scope.close(coordinator, Exit.void)
      yield* Scope.close(scope, Exit.void)
      assert.isEmpty(yield* Effect.provide(simulatedAlive, context))
    }))

  it.effect("fails as start does, and leaves nothing when it is interrupted", () =>
    Effect.gen(function*() {
      assert.strictEqual(
        (yield* Effect.flip(Effect.scoped(JobCoordinator.startScoped(JobSpec.make({ command: "q" })))))._tag,
        "JobStartError"
      )
      for (let yields = 0; yields < 20; yields++) {
        const fiber = yield* Effect.fork(Effect.scoped(JobCoordinator.startScoped(p)))
        for (let i = 0; i < yields; i++) yield* Effect.yieldNow()
        yield* Fiber.interrupt(fiber)
        assert.isEmpty(yield* simulatedAlive)
      }
    }).pipe(Effect.provide(simulated({ p: {} }))))

  it.scopedLive("leaves nothing of a real job, nor of what it started", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator.JobCoordinator
      yield* Effect.scoped(Effect.gen(function*() {
        const id = yield* JobCoordinator.startScoped(sh("sleep 600 & echo up; wait"))
        yield* Stream.runHead(jobs.stdout(id))
        assert.isNotEmpty(processes.alive())
      }))
      assert.isEmpty(processes.alive())
    }).pipe(Effect.provide(live())))
})

describe("a restart with backoff", () => {
  it.effect("takes no more than a Schedule: it waits longer each time, a minute at most, and begins anew after an hour", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator.JobCoordinator
      const backoff = Schedule.exponential("1 second").pipe(
        Schedule.union(Schedule.spaced("1 minute")),
        Schedule.resetAfter("1 hour")
      )
      const supervised = JobCoordinator.startScoped(p).pipe(
        Effect.flatMap(jobs.wait),
        Effect.scoped,
        Effect.repeat({ schedule: backoff, until: JobStatus.isSuccess })
      )
      const fiber = yield* Effect.fork(supervised)
      yield* TestClock.adjust("3 hours")
      yield* Fiber.join(fiber)
      const starts = (yield* trace).flatMap(({ _tag, at }) => _tag === "Spawned" ? [at / 1000] : [])
      assert.deepStrictEqual(starts, [0, 1, 3, 7, 15, 31, 63, 123, 183, 7384, 7386, 7390])
    }).pipe(Effect.provide((() => {
      let runs = 0
      return simulated({
        p: () => ++runs === 9 ? { end: { at: "2 hours", code: 1 } } : { end: { code: runs < 12 ? 1 : 0 } }
      })
    })())))
})

describe("stopAll", () => {
  const start = (command: string, labels: Record<string, string> = {}) =>
    Effect.flatMap(JobCoordinator.JobCoordinator, (jobs) => jobs.start(JobSpec.make({ command, labels })))

  it.effect("stops together all that match and have not ended, and gives their ends in the order of their starts", () =>
    Effect.gen(function*() {
      const stubborn = yield* start("stubborn", { kind: "a" })
      yield* start("ended", { kind: "a" })
      const other = yield* start("p", { kind: "b" })
      const leaderless = yield* start("leaderless", { kind: "a" })
      const fiber = yield* Effect.fork(JobCoordinator.stopAll({ labels: { kind: "a" } }, { gracePeriod: "3 seconds" }))
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(yield* Fiber.join(fiber), [
        { id: stubborn, status: killed("SIGKILL") },
        { id: leaderless, status: exited(0) }
      ])
      assert.deepStrictEqual(yield* running, [other])
      assert.deepStrictEqual(yield* JobCoordinator.stopAll(), [{ id: other, status: killed("SIGTERM") }])
      assert.deepStrictEqual(yield* JobCoordinator.stopAll(), [])
    }).pipe(Effect.provide(simulated({
      p: {},
      stubborn: { ignores: ["SIGTERM"] },
      ended: { end: { code: 0 } },
      // Its status is Exited already, but it has not ended.
      leaderless: { end: { code: 0 }, children: [{ ignores: ["SIGTERM"] }] }
    }))))

  it.effect("goes on when its caller is interrupted", () =>
    Effect.gen(function*() {
      yield* start("p")
      yield* start("p")
      const fiber = yield* Effect.fork(JobCoordinator.stopAll())
      yield* settle
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust("5 seconds")
      assert.isEmpty(yield* simulatedAlive)
    }).pipe(Effect.provide(simulated({ p: { ignores: ["SIGTERM"] } }))))

  it.effect("fails when the coordinator has been closed", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(simulated({}), scope)
      yield* Scope.close(scope, Exit.void)
      const error = yield* Effect.flip(Effect.provide(JobCoordinator.stopAll(), context))
      assert.deepStrictEqual(error, new JobError.CoordinatorStopped())
    }))

  it.scopedLive("leaves nothing of real jobs", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator.JobCoordinator
      const ids = yield* Effect.forEach([1, 2, 3], () => jobs.start(sh("sleep 600 & echo up; wait")))
      const short = yield* jobs.start(sh("exit 0"))
      yield* jobs.wait(short)
      yield* Effect.forEach(ids, (id) => Stream.runHead(jobs.stdout(id)))
      assert.deepStrictEqual((yield* JobCoordinator.stopAll()).map(({ id }) => id), ids)
      assert.isEmpty(processes.alive())
    }).pipe(Effect.provide(live())))
})
