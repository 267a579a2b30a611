import { afterAll, assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Schema, TestClock } from "effect"
import { live, mark, simulated, simulatedAlive, trace, until } from "../utils.ts"
import { Pipeline, run, Step, StepFailed } from "./ciRunner.ts"

const processes = mark()
afterAll(() => assert.deepStrictEqual(processes.alive(), []))

const pipeline = (...steps: ReadonlyArray<typeof Step.Encoded>) => Schema.decodeSync(Pipeline)(JSON.stringify(steps))

const start = (steps: ReadonlyArray<Step>) =>
  Effect.gen(function*() {
    const lines: Array<string> = []
    const fiber = yield* Effect.fork(Effect.exit(run(steps, (line) => Effect.sync(() => void lines.push(line)))))
    return { fiber, lines }
  })

const withoutTimes = (lines: ReadonlyArray<string>) => lines.map((line) => line.replace(/^\d{4}-\S+Z /, ""))

describe("the CI runner", () => {
  const steps = pipeline(
    { name: "install", job: { command: "npm", args: ["ci"] } },
    { name: "test", job: { command: "npm", args: ["test"], timeout: "10m", env: { CI: "1" } } },
    { name: "deploy", job: { command: "npm", args: ["publish"] } }
  )

  const npm = (test: object) =>
    simulated({
      npm: ({ args, env }) =>
        args[0] === "test"
          ? { output: [{ at: 1000, data: `CI=${env["CI"]}\n` }, { source: "stderr", data: "slow…" }], ...test }
          : { output: [{ data: `${args[0]}\n` }], end: { at: "5 seconds", code: 0 } }
    })

  it.effect("runs the steps in order, each line with its time and its step, and sums up", () =>
    Effect.gen(function*() {
      const { fiber, lines } = yield* start(steps)
      yield* TestClock.adjust("1 hour")
      assert.isTrue(Exit.isSuccess(yield* Fiber.join(fiber)))
      assert.deepStrictEqual(lines, [
        "1970-01-01T00:00:00.000Z install: ci",
        "1970-01-01T00:00:06.000Z test: CI=1",
        "1970-01-01T00:00:07.000Z test! slow…",
        "1970-01-01T00:00:07.000Z deploy: publish",
        "install: passed in 5s",
        "test: passed in 2s",
        "deploy: passed in 5s"
      ])
    }).pipe(Effect.provide(npm({ end: { at: "2 seconds", code: 0 } }))))

  it.effect("stops at the first step that fails", () =>
    Effect.gen(function*() {
      const { fiber, lines } = yield* start(steps)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(
        yield* Fiber.join(fiber),
        Exit.fail(new StepFailed({ step: "test", reason: "exited with code 3" }))
      )
      assert.deepStrictEqual(lines.slice(-3), ["install: passed in 5s", "test: exited with code 3", "deploy: not run"])
    }).pipe(Effect.provide(npm({ end: { at: "2 seconds", code: 3 } }))))

  it.effect("stops a step that takes too long", () =>
    Effect.gen(function*() {
      const { fiber, lines } = yield* start(steps)
      yield* TestClock.adjust("1 hour")
      assert.isTrue(Exit.isFailure(yield* Fiber.join(fiber)))
      assert.include(lines, "test: killed by SIGTERM (timeout) after 10m")
      assert.isEmpty(yield* simulatedAlive)
    }).pipe(Effect.provide(npm({}))))

  it.effect("says why a step cannot be run", () =>
    Effect.gen(function*() {
      const { fiber, lines } = yield* start(pipeline({ name: "oops", job: { command: "gti" } }))
      assert.isTrue(Exit.isFailure(yield* Fiber.join(fiber)))
      assert.match(lines.join(), /^oops: Cannot start "gti"/)
    }).pipe(Effect.provide(npm({}))))

  it.effect("cancels the step that runs, and still sums up, when it is interrupted", () =>
    Effect.gen(function*() {
      const { fiber, lines } = yield* start(steps)
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(lines.slice(-3), ["install: passed in 5s", "test: cancelled", "deploy: not run"])
      assert.isEmpty(yield* simulatedAlive)
      assert.deepInclude((yield* trace).at(-1), { at: 10_000, _tag: "Exited", signal: "SIGTERM" })
    }).pipe(Effect.provide(npm({}))))

  it.scopedLive("runs real steps, and leaves nothing of them", () =>
    Effect.gen(function*() {
      const sh = (script: string) => ({ command: "sh", args: ["-c", script], env: { GREETING: "hello" } })
      const { fiber, lines } = yield* start(pipeline(
        { name: "a", job: sh("echo $GREETING; sleep 600 & printf end") },
        { name: "b", job: sh("echo oh >&2; exit 9") }
      ))
      assert.deepStrictEqual(
        yield* Fiber.join(fiber),
        Exit.fail(new StepFailed({ step: "b", reason: "exited with code 9" }))
      )
      assert.deepStrictEqual(withoutTimes(lines).slice(0, 3), ["a: hello", "a: end", "b! oh"])
      assert.isEmpty(processes.alive())

      const waiting = yield* start(pipeline({ name: "c", job: sh("sleep 600 & echo up; wait") }))
      yield* until(() => waiting.lines.length > 0)
      yield* Fiber.interrupt(waiting.fiber)
      assert.deepStrictEqual(waiting.lines.slice(-1), ["c: cancelled"])
      assert.isEmpty(processes.alive())
    }).pipe(Effect.provide(live())))
})
