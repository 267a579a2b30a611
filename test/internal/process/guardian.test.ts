import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import * as Guardian from "../../../src/internal/process/guardian.ts"
import { guardianScript } from "../../../src/internal/process/guardianScript.ts"
import * as Hosts from "../../fixtures/hosts.ts"
import * as Processes from "../../fixtures/processes.ts"
import * as WallTime from "../../fixtures/wallTime.ts"

/** The script by itself: the test is its host. */
const startScript = Effect.acquireRelease(
  Effect.sync(() => {
    const mark = `JOBLIB_TEST_${randomUUID().replaceAll("-", "_")}`
    const script = spawn("/bin/sh", ["-c", guardianScript, "joblib-guardian", `${mark}=1`], {
      detached: true,
      env: { PATH: process.env["PATH"] },
      stdio: ["pipe", "ignore", "ignore"]
    })
    return { pid: script.pid ?? 0, mark, input: script.stdin, exited: Hosts.waitForExit(script) }
  }),
  ({ pid, mark }) =>
    Effect.sync(() => [pid, ...Processes.carrying(`${mark}=1`)].forEach((pid) => Processes.kill(pid, "SIGKILL")))
)

/** A shell script that leads a group, once it has said "up". */
const startJob = (script: string, env: Record<string, string> = {}) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const job = spawn("sh", ["-c", script], {
        detached: true,
        env: { PATH: process.env["PATH"], ...env },
        stdio: ["ignore", "pipe", "ignore"]
      })
      const pid = job.pid ?? 0
      return { pid, says: Hosts.waitForOutput(job.stdout), groupGone: Processes.none(() => Processes.inGroup(pid)) }
    }),
    ({ pid }) => Effect.sync(() => Processes.kill(-pid, "SIGKILL"))
  ).pipe(Effect.tap((job) => job.says(/up/)))

describe("guardianScript", () => {
  it.scopedLive("sends SIGTERM and SIGCONT to every registered group: even a stopped one can say goodbye", () =>
    Effect.gen(function*() {
      const guardian = yield* startScript
      const job = yield* startJob("trap 'echo goodbye; exit' TERM; echo up; while :; do sleep 0.01; done")
      process.kill(-job.pid, "SIGSTOP")
      guardian.input.end(`0 ${job.pid}\n`)
      yield* job.says(/goodbye/)
      yield* guardian.exited
    }))

  it.scopedLive("kills groups that ignore SIGTERM, two seconds after the end of its host at the latest", () =>
    Effect.gen(function*() {
      const guardian = yield* startScript
      const jobs = yield* Effect.replicateEffect(startJob("trap '' TERM; sleep 1000 & echo up; wait"), 5)
      const begin = performance.now()
      guardian.input.end(jobs.map((job, slot) => `${slot} ${job.pid}\n`).join(""))
      for (const job of jobs) yield* job.groupGone
      WallTime.assertWithin(performance.now() - begin, 2000)
    }))

  it.scopedLive("touches no group but the registered ones, as they are when the host ends", () =>
    Effect.gen(function*() {
      const guardian = yield* startScript
      const [never, once, cutShort, replaced, last] = yield* Effect.all([
        startJob("echo up; sleep 1000"),
        startJob("echo up; sleep 1000"),
        startJob("echo up; sleep 1000"),
        startJob("echo up; sleep 1000"),
        startJob("echo up; sleep 1000")
      ])
      guardian.input.write(`0 ${once.pid}\n1 ${replaced.pid}\n0\n1\n1 ${last.pid}\n`)
      guardian.input.end(`2 ${cutShort.pid}`)
      yield* last.groupGone
      yield* guardian.exited
      for (const job of [never, once, cutShort, replaced]) assert.isTrue(Processes.isAlive(job.pid))
    }))

  it.scopedLive("asks a job to end that carries its mark, though it was never registered", () =>
    Effect.gen(function*() {
      const guardian = yield* startScript
      const job = yield* startJob("trap 'echo goodbye; exit' TERM; echo up; while :; do sleep 0.01; done", {
        [guardian.mark]: "1"
      })
      guardian.input.end()
      yield* job.says(/goodbye/)
      yield* guardian.exited
    }))

  it.scopedLive("ends what carries its mark, wherever it has gone, and what is in one group with it", () =>
    Effect.gen(function*() {
      const guardian = yield* startScript
      const marked = { [guardian.mark]: "1" }
      const unregistered = yield* startJob("trap '' TERM; env -i sleep 1000 & echo up; wait", marked)
      const escaped = yield* startJob(
        `exec "${process.execPath}" -e '
        const options = { detached: true, stdio: "ignore" }
        require("node:child_process").spawn("sleep", ["1000"], options).unref()
        console.log("up")'`,
        marked
      )
      const stranger = yield* startJob("echo up; sleep 1000", { [`${guardian.mark}0`]: "1", MARK: guardian.mark })
      yield* escaped.groupGone
      assert.lengthOf(Processes.carrying(`${guardian.mark}=1`), 3)
      guardian.input.end()
      yield* unregistered.groupGone
      yield* guardian.exited
      assert.isEmpty(Processes.carrying(`${guardian.mark}=1`))
      assert.isTrue(Processes.isAlive(stranger.pid))
    }))

  it.scopedLive("ends a family that forks in a storm, each child in a session of its own", () =>
    Effect.gen(function*() {
      const guardian = yield* startScript
      yield* startJob(
        `exec "${process.execPath}" -e '
          const { spawn } = require("node:child_process")
          const again = () => {
            spawn("sleep", ["1000"], { detached: true, stdio: "ignore" }).unref()
            setTimeout(again, 2)
          }
          again()
          console.log("up")'`,
        { [guardian.mark]: "1" }
      )
      guardian.input.end()
      yield* guardian.exited
      assert.isEmpty(Processes.carrying(`${guardian.mark}=1`))
    }))

  it.scopedLive("minds no signal that can be ignored", () =>
    Effect.gen(function*() {
      const guardian = yield* startScript
      const job = yield* startJob("echo up; sleep 1000")
      guardian.input.write(`0 ${job.pid}\n`)
      yield* Processes.eventually(() => Processes.ignores(guardian.pid, 15), (ignored) => ignored)
      for (const signal of ["SIGHUP", "SIGINT", "SIGQUIT", "SIGPIPE", "SIGTERM"] as const) {
        process.kill(guardian.pid, signal)
      }
      guardian.input.end()
      yield* job.groupGone
      yield* guardian.exited
    }))
})

describe("Guardian", () => {
  /** The helper's process id. */
  const helperOf = (guardian: Guardian.Guardian) =>
    Effect.map(
      Processes.eventually(() => Processes.carrying(`${guardian.mark}=1`), (found) => found.length === 1),
      ([pid]) => pid ?? 0
    )

  const warnings = () => {
    const messages: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      messages.push(`${logLevel.label} ${message}`)
    })
    return { messages, layer: Logger.replace(Logger.defaultLogger, logger) }
  }

  it.scopedLive("has a mark of its own, fit for a variable's name", () =>
    Effect.gen(function*() {
      const [one, other] = yield* Effect.all([Guardian.make, Guardian.make])
      assert.match(one.mark, /^JOBLIB_[0-9a-f_]{36}$/)
      assert.notStrictEqual(one.mark, other.mark)
    }))

  it.live("closing its scope ends it", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const guardian = yield* Scope.extend(Guardian.make, scope)
      const helper = yield* helperOf(guardian)
      assert.isTrue(guardian.isAlive)
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(Processes.isAlive(helper))
      assert.isFalse(guardian.isAlive)
    }))

  it.live("closing its scope ends it when its fiber has been interrupted, too", () =>
    Effect.gen(function*() {
      const made = yield* Deferred.make<Guardian.Guardian>()
      const fiber = yield* Effect.fork(Effect.scoped(
        Guardian.make.pipe(Effect.tap((guardian) => Deferred.succeed(made, guardian)), Effect.zipRight(Effect.never))
      ))
      const helper = yield* Effect.flatMap(Deferred.await(made), helperOf)
      yield* Fiber.interrupt(fiber)
      assert.isFalse(Processes.isAlive(helper))
    }))

  it.live("starts its helper once more, then warns and says so", () => {
    const { layer, messages } = warnings()
    return Effect.gen(function*() {
      const guardian = yield* Guardian.make
      const first = yield* helperOf(guardian)
      process.kill(first, "SIGKILL")
      const second = yield* Effect.repeat(helperOf(guardian), { until: (pid) => pid !== first })
      assert.isTrue(guardian.isAlive)
      assert.isEmpty(messages)
      process.kill(second, "SIGKILL")
      yield* Processes.eventually(() => messages.length, (count) => count > 0)
      assert.isFalse(guardian.isAlive)
      assert.match(messages.join(), /^WARN The guardian is lost/)
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.live("takes registrations at any time, from a helper that does not read as from a dead one", () =>
    Effect.gen(function*() {
      const guardian = yield* Guardian.make
      for (const signal of ["SIGSTOP", "SIGKILL", "SIGKILL"] as const) {
        process.kill(yield* helperOf(guardian), signal)
        for (let i = 0; i < 20_000; i++) guardian.register(2 ** 30 + i)
        for (let i = 0; i < 20_000; i++) guardian.unregister(2 ** 30 + i)
      }
      yield* Processes.eventually(() => guardian.isAlive, (alive) => !alive)
      guardian.register(2 ** 30)
    }).pipe(Effect.scoped, Effect.provide(warnings().layer)))

  it.live("warns when the helper cannot be started", () => {
    const { layer, messages } = warnings()
    const path = process.env["PATH"]
    return Effect.gen(function*() {
      yield* Effect.acquireRelease(
        Effect.sync(() => process.env["PATH"] = "/too/long:".repeat(100_000)),
        () => Effect.sync(() => process.env["PATH"] = path)
      )
      const guardian = yield* Guardian.make
      assert.isFalse(guardian.isAlive)
      yield* Processes.eventually(() => messages.length, (count) => count > 0)
      guardian.register(2 ** 30)
    }).pipe(Effect.scoped, Effect.provide(layer))
  })
})
