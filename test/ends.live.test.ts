/**
 * How jobs end, shown with real processes: exact ends, whole groups, and the last bytes.
 */
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as JobConfig from "../src/JobConfig.ts"
import { JobCoordinator } from "../src/JobCoordinator.ts"
import type * as JobId from "../src/JobId.ts"
import * as JobSpec from "../src/JobSpec.ts"
import { Exited, isEnded, Killed } from "../src/JobStatus.ts"
import * as NodeProcessSpawner from "../src/NodeProcessSpawner.ts"
import { ProcessSpawner } from "../src/ProcessSpawner.ts"
import * as Processes from "./fixtures/processes.ts"
import { programs, sh } from "./fixtures/programs.ts"
import { numbers, size } from "./fixtures/sizes.ts"
import * as WallTime from "./fixtures/wallTime.ts"
import { live, mark, over, textOf } from "./utils.ts"

const processes = mark()
afterAll(() => assert.deepStrictEqual(processes.alive(), [], "no process is left"))

const test = (
  promise: string,
  body: Effect.Effect<void, unknown, JobCoordinator | Scope.Scope>,
  settings: JobConfig.PartialSettings = {}
) => it.scopedLive(promise, () => Effect.provide(body, live(settings)))

/** A job that runs, once it has written a line; the line tells what it likes. */
const up = (spec: JobSpec.JobSpec) =>
  Effect.gen(function*() {
    const jobs = yield* JobCoordinator
    const id = yield* jobs.start(spec)
    const { pid } = yield* jobs.info(id)
    const line = yield* jobs.stdout(id).pipe(Stream.decodeText(), Stream.splitLines, Stream.runHead)
    return { id, pid, line: Option.getOrElse(line, () => "") }
  })

const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.timed(effect), ([time, result]) => [result, Duration.toMillis(time)] as const)

/** Its standard output alone: on the other stream a shell tells which of its children were killed. */
const stdoutOf = (id: JobId.JobId) =>
  Effect.flatMap(JobCoordinator, (jobs) => textOf(jobs.output(id, { source: "stdout" })))

/** Waits, without a pause, until the job's leader has been reaped. */
const exited = (id: JobId.JobId) =>
  Effect.flatMap(JobCoordinator, (jobs) => Effect.repeat(jobs.status(id), { until: isEnded }))

const between = (actual: number, from: number, to: number) => {
  assert.isAtLeast(actual, from - 1)
  WallTime.assertWithin(actual, to)
}

/** Does nothing else for so long, and lets nobody else. */
const block = (millis: number) =>
  Effect.sync(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, millis))

describe("a stop", () => {
  test(
    "kills a job that ignores SIGTERM when its grace period of a second is over",
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const { id, pid } = yield* up(sh("trap '' TERM; echo up; exec sleep 600"))
      const [status, time] = yield* timed(jobs.stop(id, { gracePeriod: "1 second" }))
      assert.deepStrictEqual(status, new Killed({ signal: "SIGKILL" }))
      between(time, 1000, 1500)
      assert.isEmpty(Processes.inGroup(pid))
    })
  )

  test(
    "kills the sibling that ignores SIGTERM of a leader that obeys it",
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const { id, pid } = yield* up(sh("(trap '' TERM; echo up; exec sleep 600) & wait"))
      const [status, time] = yield* timed(jobs.stop(id, { gracePeriod: "1 second" }))
      assert.deepStrictEqual(status, new Killed({ signal: "SIGTERM" }))
      between(time, 1000, 2000)
      assert.isEmpty(Processes.inGroup(pid))
    })
  )

  test(
    "lets a job that is stopped by SIGSTOP run its handler of SIGTERM",
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const { id, pid } = yield* up(sh("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done"))
      process.kill(-pid, "SIGSTOP")
      // A shell whose child is stopped before it has become a sleep waits for it, and does not look stopped.
      const states = () => Processes.inGroup(pid).map(Processes.stateOf)
      yield* Processes.eventually(states, (found) => found.includes("T"))
      assert.deepStrictEqual(yield* jobs.stop(id), new Exited({ code: 7 }))
      assert.strictEqual(yield* stdoutOf(id), "up\nbye\n")
    })
  )

  for (
    const [what, trap] of [["dies of SIGTERM", ""], ["ignores SIGTERM", "trap '' TERM; "]] as const
  ) {
    test(
      `leaves nothing of a job that forks in a storm and ${what}`,
      Effect.forEach(numbers(size(20, 3)), () =>
        Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const { id, pid } = yield* up(sh(`${trap}echo up; while :; do sleep 600 & done`))
          yield* Processes.eventually(() => Processes.inGroup(pid), (members) => members.length > 20)
          yield* jobs.stop(id, { gracePeriod: "50 millis" })
          assert.isEmpty(Processes.inGroup(pid))
        }), { discard: true })
    )
  }
})

describe("the leader's own exit", () => {
  test(
    "shows within 100 ms, and takes with it what the leader has left in its group",
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const times: Array<number> = []
      for (const _ of numbers(5)) {
        const id = yield* jobs.start(sh("sleep 300 & exit 0"))
        const { pid } = yield* jobs.info(id)
        const look = Effect.delay(jobs.status(id), "1 millis")
        const [status, time] = yield* timed(Effect.repeat(look, { until: isEnded }))
        assert.deepStrictEqual(status, new Exited({ code: 0 }))
        times.push(time)
        yield* Stream.runDrain(jobs.output(id))
        assert.isEmpty(Processes.inGroup(pid))
      }
      // One of them may be late.
      WallTime.assertWithin(Math.min(...times), 100)
    })
  )

  test(
    "ends the output as soon as the group is gone, though a member held it until it was killed",
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const { id, pid } = yield* up(sh("trap 'exit 0' USR1; (trap '' TERM; echo up; exec sleep 600) & wait"))
      process.kill(pid, "SIGUSR1")
      const [output, time] = yield* timed(textOf(jobs.output(id)))
      assert.strictEqual(output, "up\n")
      // After the grace period, and long before drainTimeout.
      between(time, 500, 10_000)
      assert.isEmpty(Processes.inGroup(pid))
      assert.deepStrictEqual(yield* jobs.status(id), new Exited({ code: 0 }))
      assert.isFalse((yield* jobs.info(id)).output.cut)
    }),
    { drainTimeout: "10 minutes", stop: { gracePeriod: "500 millis" } }
  )

  test(
    "leaves a member that writes for a second after SIGTERM its time, and every byte of it is read",
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const { id, pid } = yield* up(sh(`
        last_words() {
          i=0
          while [ $i -lt 20 ]; do i=$((i + 1)); echo $i; sleep 0.05; done
          echo last
          exit
        }
        trap 'exit 0' USR1
        (trap last_words TERM; echo up; while :; do sleep 0.01; done) &
        wait
      `))
      process.kill(pid, "SIGUSR1")
      const [output, time] = yield* timed(stdoutOf(id))
      assert.strictEqual(output, ["up", ...numbers(20).map((n) => n + 1), "last", ""].join("\n"))
      assert.isAtLeast(time, 1000)
      assert.deepStrictEqual(yield* jobs.status(id), new Exited({ code: 0 }))
      assert.isFalse((yield* jobs.info(id)).output.cut)
    })
  )
})

describe("an escapee that holds a pipe", () => {
  test(
    "ends the output within drainTimeout; the job's info tells that it was cut, and guarantee that it was no tree",
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const { id, line: escapee } = yield* up(programs.leavesEscapee)
      yield* Effect.addFinalizer(() => Effect.sync(() => Processes.kill(Number(escapee), "SIGKILL")))
      yield* exited(id)
      const [output, time] = yield* timed(textOf(jobs.output(id)))
      assert.strictEqual(output, `${escapee}\n`)
      WallTime.assertWithin(time, 700)
      assert.isTrue((yield* jobs.info(id)).output.cut)
      assert.strictEqual(jobs.guarantee, "group")
      assert.isTrue(Processes.isAlive(Number(escapee)))
    }),
    { drainTimeout: "200 millis" }
  )

  test(
    "and writes for ever is read no longer than drainTimeout, in bounded memory, also for a reader that blocks",
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const script = `
        const { spawn } = require("node:child_process")
        spawn("cat", ["/dev/zero"], { detached: true, stdio: "inherit" }).unref()
      `
      const id = yield* jobs.start(
        JobSpec.make({ command: process.execPath, args: ["-e", script], output: { maxBytes: 100_000 } })
      )
      yield* jobs.pull(id, { whenBehind: "block" })
      yield* exited(id)
      const [, time] = yield* timed(jobs.wait(id))
      WallTime.assertWithin(time, 2000)
      const { output } = yield* jobs.info(id)
      assert.isTrue(output.cut)
      assert.strictEqual(output.evictedBytes, 0)
      assert.isBelow(output.stdoutBytes, 20_000_000)
    })
  )
})

describe("a reader that blocks the job and has stopped reading", () => {
  const flood = JobSpec.make({ command: "cat", args: ["/dev/zero"], output: { maxBytes: 100_000 } })

  /** A job whose log is full because nobody reads it. */
  const flooded = Effect.gen(function*() {
    const jobs = yield* JobCoordinator
    const id = yield* jobs.start(flood)
    const reader = yield* jobs.pull(id, { whenBehind: "block" })
    const { pid } = yield* jobs.info(id)
    const written = Effect.map(jobs.info(id), (info) => info.output.stdoutBytes)
    yield* Effect.repeat(written, { until: (bytes) => bytes > 100_000 })
    return { id, pid, reader, written }
  })

  test(
    "delays neither a stop nor a wait, and still gets every byte",
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const { id, reader, written } = yield* flooded
      const wait = yield* Effect.fork(jobs.wait(id))
      const [status, time] = yield* timed(jobs.stop(id))
      assert.deepStrictEqual(status, new Killed({ signal: "SIGTERM" }))
      assert.deepStrictEqual(yield* Fiber.join(wait), status)
      WallTime.assertWithin(time, 1000)
      let bytes = 0
      yield* reader.pipe(
        Effect.tap((chunks) =>
          Effect.sync(() => {
            for (const chunk of chunks) {
              assert.strictEqual(chunk.offset, bytes)
              bytes += chunk.bytes.length
            }
          })
        ),
        Effect.forever,
        Effect.ignore
      )
      assert.strictEqual(bytes, yield* written)
    })
  )

  test(
    "does not delay the wait for a job that ends by itself",
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const { id, pid } = yield* flooded
      Processes.kill(pid, "SIGINT")
      const [status, time] = yield* timed(jobs.wait(id))
      assert.deepStrictEqual(status, new Killed({ signal: "SIGINT" }))
      WallTime.assertWithin(time, 1000)
    })
  )

  it.live("does not delay the closing of the layer", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const readers = yield* Scope.make()
      const context = yield* Layer.buildWithScope(live(), scope)
      const { pid } = yield* flooded.pipe(Effect.provide(context), Scope.extend(readers))
      const [, time] = yield* timed(Scope.close(scope, Exit.void))
      WallTime.assertWithin(time, 1000)
      assert.isEmpty(Processes.inGroup(pid))
      yield* Scope.close(readers, Exit.void)
      assert.isDefined(Context.get(context, JobCoordinator))
    }))
})

describe("a host that was busy for two seconds, longer than drainTimeout,", () => {
  const bytes = 150_000
  const spec = sh(`head -c ${bytes} /dev/zero`, { output: { maxBytes: 10_000 } })

  const complete = (id: JobId.JobId) =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      assert.deepStrictEqual(yield* jobs.wait(id), new Exited({ code: 0 }))
      const { output } = yield* jobs.info(id)
      assert.deepStrictEqual([output.stdoutBytes, output.cut], [bytes, false])
    })

  test(
    "from the start of a job until after its end reads all its output, and cuts none",
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(spec)
      yield* block(2000)
      yield* complete(id)
    })
  )

  it.scopedLive("right from the exit of a job reads what is left in the pipe, and cuts none", () => {
    let early = 0
    const busyAtExit = Layer.map(NodeProcessSpawner.layer, (context) => {
      const spawner = Context.get(context, ProcessSpawner)
      return Context.make(ProcessSpawner, {
        ...spawner,
        spawn: (spec, listener) => {
          let size = 0
          return spawner.spawn(spec, {
            ...listener,
            onOutput: (source, bytes) => {
              size += bytes.length
              return listener.onOutput(source, bytes)
            },
            onExit: (status, isGone) => {
              early = size
              listener.onExit(status, isGone)
              Effect.runSync(block(2000))
            }
          })
        }
      })
    })
    return Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(spec)
      // The log is full long before the job has written all, so that the pipe is full of it when the job exits.
      yield* jobs.pull(id, { whenBehind: "block" })
      yield* complete(id)
      assert.isBelow(early, bytes)
    }).pipe(Effect.provide(over(busyAtExit)))
  })
})
