import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, TestClock } from "effect"
import { JobCoordinator, JobStatus, SimulatedProcesses } from "../../src/index.ts"
import { build, BuildFailed } from "./buildRunner.ts"

const script = (
  output: SimulatedProcesses.Script["output"],
  end?: SimulatedProcesses.End
): SimulatedProcesses.Script => ({
  output,
  end
})

const scripts: Parameters<typeof SimulatedProcesses.layer>[0] = {
  "tsc": script([{ at: "1 second", data: "checking\nfine\n" }], { at: "2 seconds", code: 0 }),
  "eslint .": script([{ at: "1 second", data: "no semic" }, { at: "3 seconds", data: "olon" }], {
    at: "3 seconds",
    code: 2
  }),
  "vitest": {
    output: [{ at: "2 seconds", data: "1 passed\n" }, { at: "4 seconds", source: "stderr", data: "not yet\n" }],
    ignores: ["SIGTERM"]
  }
}

const TestLayer = JobCoordinator.layer.pipe(Layer.provideMerge(SimulatedProcesses.layer(scripts)))

const run = (steps: Record<string, string>) =>
  Effect.gen(function*() {
    const lines: Array<string> = []
    const fiber = yield* Effect.fork(Effect.exit(build(steps, (line) => Effect.sync(() => void lines.push(line)))))
    return { lines, fiber }
  })

const ended = Effect.gen(function*() {
  const { trace } = yield* SimulatedProcesses.SimulatedProcesses
  return (yield* trace).flatMap(({ _tag, at, command, signal }) => _tag === "Exited" ? [[at, command, signal]] : [])
})

describe("the build runner", () => {
  it.effect("follows the lines of its commands, and stops the rest when one fails", () =>
    Effect.gen(function*() {
      const { fiber, lines } = yield* run({ types: "tsc", lint: "eslint .", test: "vitest" })
      yield* TestClock.adjust("3 seconds")
      yield* TestClock.adjust("5 seconds")
      const status = new JobStatus.Exited({ code: 2 })
      assert.deepStrictEqual(yield* Fiber.join(fiber), Exit.fail(new BuildFailed({ step: "lint", status })))
      assert.sameMembers(lines, [
        "[types] checking",
        "[types] fine",
        "[lint] no semicolon",
        "[test] 1 passed",
        "[test] not yet"
      ])
      assert.deepStrictEqual(yield* ended, [
        [2000, "tsc", undefined],
        [3000, "eslint .", undefined],
        [8000, "vitest", "SIGKILL"]
      ])
    }).pipe(Effect.provide(TestLayer)))

  it.effect("succeeds when all commands do", () =>
    Effect.gen(function*() {
      const { fiber } = yield* run({ types: "tsc", again: "tsc" })
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(Exit.isSuccess(yield* Fiber.join(fiber)))
    }).pipe(Effect.provide(TestLayer)))

  it.effect("leaves nothing when a command cannot start, or when it is interrupted", () =>
    Effect.gen(function*() {
      const first = yield* run({ types: "tsc", oops: "no such thing" })
      const exit = yield* Fiber.join(first.fiber)
      assert.isTrue(Exit.isFailure(exit))
      assert.deepStrictEqual(yield* ended, [[0, "tsc", "SIGTERM"]])
      const second = yield* run({ types: "tsc", lint: "eslint ." })
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(second.fiber)
      assert.lengthOf(yield* ended, 3)
    }).pipe(Effect.provide(TestLayer)))
})
