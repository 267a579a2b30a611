/**
 * Random programs of many fibers, whose calls are given up at random, in an order of their steps that is random too: what
 * they see agrees with the model. `JOBLIB_TEST_RUNS` says how many programs there are, and
 * `JOBLIB_TEST_SEED` which; unless either is given, they are the same each time.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Supervisor from "effect/Supervisor"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import { JobCoordinator } from "../src/JobCoordinator.ts"
import type { JobEvent } from "../src/JobEvent.ts"
import * as JobId from "../src/JobId.ts"
import * as JobSpec from "../src/JobSpec.ts"
import type * as SimulatedProcesses from "../src/SimulatedProcesses.ts"
import { type Order, runSync } from "./fixtures/seededScheduler.ts"
import { type Answer, type Call, type History, problems, type Question } from "./model.ts"
import { simulated, textOf, trace } from "./utils.ts"

const { JOBLIB_TEST_RUNS, JOBLIB_TEST_SEED: seed = JOBLIB_TEST_RUNS === undefined ? "1" : undefined } = process.env
const runs = Number(JOBLIB_TEST_RUNS ?? 20)

/** A slow machine tries fewer programs in this time, in milliseconds, and gives the smallest failure it has found by then. */
const maxTime = 75_000

/** Output that is different in every piece, at times in milliseconds. */
const output = (name: string, ...times: ReadonlyArray<number>) => times.map((at) => ({ at, data: `${name}${at};` }))

const scripts: Readonly<Record<string, SimulatedProcesses.Script>> = {
  runs: { output: output("runs", 0, 15, 200) },
  ends: { output: output("ends", 0), end: { code: 0 } },
  fails: { output: output("fails", 0, 10), end: { at: 20, code: 3 } },
  dies: { output: output("dies", 5), end: { at: 10, signal: "SIGSEGV" } },
  stubborn: { output: output("stubborn", 0, 30, 60), ignores: ["SIGTERM"] },
  leaves: {
    output: output("leaves", 0),
    end: { at: 10, code: 7 },
    children: [{}, { ignores: ["SIGTERM"], output: output("child", 5, 25) }]
  },
  missing: { failsToStart: "NotFound" }
}

const commands = Object.keys(scripts)

interface Step {
  readonly question: Question
  /** Which script, or which of the jobs that are known by then. */
  readonly which: number
  /** How long before it, in milliseconds. */
  readonly delay: number
  /** After how many yields the caller leaves, if it does. */
  readonly patience: number | null
  /** What it asks of the same job as soon as it has its answer. */
  readonly next: Question | null
}

interface Program {
  readonly order: Order
  readonly settings: { readonly mailboxCapacity: number; readonly maxRunning: number; readonly maxEnded: number }
  readonly callers: ReadonlyArray<ReadonlyArray<Step>>
}

const Question = FastCheck.constantFrom<Question>("stop", "status", "wait", "output", "glance", "remove", "list")

const Step: FastCheck.Arbitrary<Step> = FastCheck.record({
  question: FastCheck.oneof(
    { arbitrary: FastCheck.constant("start" as const), weight: 3 },
    { arbitrary: Question, weight: 7 }
  ),
  which: FastCheck.nat(99),
  delay: FastCheck.constantFrom(0, 0, 0, 5, 10, 35),
  patience: FastCheck.option(FastCheck.nat(12), { freq: 3 }),
  next: FastCheck.option(Question, { freq: 2 })
})

/** Small programs are many in no time, and large ones have most chances to go wrong. */
const Callers = (maxLength: number) =>
  FastCheck.array(FastCheck.array(Step, { minLength: 1, maxLength: 6, size: "max" }), {
    minLength: 1,
    maxLength,
    size: "max"
  })

const Order: FastCheck.Arbitrary<Order> = FastCheck.record({
  seed: FastCheck.nat(),
  opsBeforeYield: FastCheck.constantFrom(2048, 64)
})

const Program: FastCheck.Arbitrary<Program> = FastCheck.record({
  order: Order,
  settings: FastCheck.record({
    mailboxCapacity: FastCheck.constantFrom(1024, 4, 1),
    maxRunning: FastCheck.constantFrom(1000, 10, 1),
    maxEnded: FastCheck.constantFrom(1000, 3)
  }),
  callers: FastCheck.oneof({ withCrossShrink: true }, Callers(3), Callers(10), Callers(100))
})

/** A hundred fibers that start jobs and list them, and end most. */
const Storm: FastCheck.Arbitrary<Program> = FastCheck.record({
  order: Order,
  settings: FastCheck.constant({ mailboxCapacity: 1024, maxRunning: 1000, maxEnded: 1000 }),
  callers: FastCheck.array(
    FastCheck.nat().map((seed): ReadonlyArray<Step> => {
      const step = { which: seed % 6, delay: seed % 3 * 5, patience: null, next: "list" } as const
      return [
        { ...step, question: "start" },
        { ...step, question: seed % 2 === 0 ? "stop" : "wait" },
        { ...step, question: "remove" }
      ]
    }),
    { minLength: 100, maxLength: 100 }
  )
})

/** An id that no job has. */
const unknown = JobId.make()

const history = (program: Program): Effect.Effect<History & { readonly hanging: number; readonly fibers: number }> =>
  Effect.gen(function*() {
    const { maxEnded, maxRunning, mailboxCapacity } = program.settings
    const supervisor = yield* Supervisor.track
    const calls: Array<Call> = []
    const events: Array<JobEvent> = []
    const known: Array<JobId.JobId> = []
    let moment = 0

    const scope = yield* Scope.make()
    const layer = simulated(scripts, {
      mailboxCapacity,
      maxRunning,
      retention: { maxEnded },
      stop: { gracePeriod: 20 }
    })
    const world = yield* Layer.buildWithScope(layer, scope).pipe(Effect.supervised(supervisor))

    const body = Effect.gen(function*() {
      const jobs = yield* JobCoordinator

      const start = (command: string): Effect.Effect<Answer, { readonly _tag: string }> =>
        Effect.map(jobs.start(JobSpec.make({ command })), (id) => {
          known.push(id)
          return { _tag: "Started", id, command }
        })

      const ask = (question: Question, id: JobId.JobId): Effect.Effect<Answer, { readonly _tag: string }> => {
        switch (question) {
          case "stop":
            return Effect.map(jobs.stop(id), (status) => ({ _tag: "Status", status }))
          case "status":
            return Effect.map(jobs.status(id), (status) => ({ _tag: "Status", status }))
          case "wait":
            return Effect.map(jobs.wait(id), (status) => ({ _tag: "Status", status }))
          case "output":
            return Effect.map(textOf(jobs.output(id)), (text) => ({ _tag: "Text", text }))
          case "glance":
            return Effect.map(textOf(jobs.output(id, { follow: false })), (text) => ({ _tag: "Text", text }))
          case "remove":
            return Effect.as(jobs.remove(id), { _tag: "Done" })
          default:
            return Effect.map(jobs.list(), (infos) => ({ _tag: "Listed", infos }))
        }
      }

      const call = (question: Question, target: string | JobId.JobId, patience: number | null = null) =>
        Effect.gen(function*() {
          const id = question === "start" || question === "list" ? undefined : target as JobId.JobId
          const asked = moment++
          const note = (answer: Answer) =>
            Effect.map(trace, ({ length }) => {
              calls.push({ question, id, asked, answered: moment++, traced: length, answer })
              return answer
            })
          const asking = (question === "start" ? start(target) : ask(question, target as JobId.JobId)).pipe(
            Effect.catchAll(({ _tag }) => Effect.succeed<Answer>({ _tag: "Failed", error: _tag })),
            Effect.flatMap((answer) => Effect.uninterruptible(note(answer)))
          )
          if (patience === null) return yield* asking
          const fiber = yield* Effect.fork(asking)
          for (let turn = 0; turn < patience; turn++) yield* Effect.yieldNow()
          const exit = yield* Fiber.interrupt(fiber)
          return Exit.isSuccess(exit) ? exit.value : yield* note({ _tag: "Left" })
        })

      const step = ({ delay, next, patience, question, which }: Step) =>
        Effect.gen(function*() {
          if (delay > 0) yield* Effect.sleep(delay)
          const command = commands[which % commands.length] as string
          const id = known.at(-1 - which % 20) ?? unknown
          const answer = yield* call(question, question === "start" ? command : id, patience)
          if (next !== null) yield* call(next, answer._tag === "Started" ? answer.id : id)
        })

      yield* Effect.fork(Stream.runForEach(jobs.events, (event) => Effect.sync(() => events.push(event))))
      yield* TestClock.adjust(1)
      const callers = yield* Effect.forEach(program.callers, (steps) => Effect.fork(Effect.forEach(steps, step)))
      yield* TestClock.adjust(250)

      // Whoever waits for a job that runs for ever gets its end. Jobs may come of it: there are as many rounds as steps.
      for (let round = 0; round < 8; round++) {
        for (const { id } of yield* jobs.list({ status: "Running" })) yield* Effect.fork(Effect.ignore(jobs.stop(id)))
        yield* TestClock.adjust(100)
      }
      const hanging = callers.filter((fiber) => fiber.unsafePoll() === null).length
      yield* Effect.forEach(callers, Fiber.interrupt)

      // Now that all is quiet, every job is asked for once more, and every place is free.
      yield* call("list", "")
      for (const id of Array.from(known)) {
        for (const question of ["status", "wait", "output", "stop"] as const) yield* call(question, id)
      }
      for (let place = 0; place <= Math.min(maxRunning, 20); place++) yield* call("start", "runs")
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust(1)
      return { hanging }
    })

    const { hanging } = yield* body.pipe(Effect.supervised(supervisor), Effect.provide(world))
    return {
      hanging,
      fibers: (yield* supervisor.value).length,
      maxEnded,
      maxRunning,
      scripts,
      calls,
      events,
      trace: yield* Effect.provide(trace, world)
    }
  }).pipe(Effect.provide(TestContext.TestContext), Effect.orDie)

const runProgram = (program: Program) => {
  const exit = runSync(history(program), program.order)
  if (Exit.isFailure(exit)) throw new Error(Cause.pretty(exit.cause))
  return exit.value
}

/** Lets the event loop have its turn between programs, each of which runs in one go. */
const check = (property: (program: Program) => void, numRuns: number, programs = Program) =>
  FastCheck.assert(
    FastCheck.asyncProperty(programs, async (program) => {
      property(program)
      await new Promise((resolve) => setImmediate(resolve))
    }),
    { numRuns, interruptAfterTimeLimit: maxTime, ...(seed === undefined ? {} : { seed: Number(seed) }) }
  )

describe("programs of up to 100 fibers, whose callers leave at random", () => {
  it(
    `agree with the model, and leave no process and no fiber (${runs} programs at most)`,
    { timeout: 600_000 },
    async () => {
      await check((program) => {
        const result = runProgram(program)
        assert.strictEqual(problems(result).join("\n"), "")
        assert.strictEqual(result.hanging, 0, "callers that wait for ever")
        assert.strictEqual(result.fibers, 0, "fibers that are left")
      }, runs)
    }
  )

  it("leave the same trace for the same seed", { timeout: 600_000 }, async () => {
    await check((program) => {
      const brief = ({ calls, trace }: History) => [trace, calls.map(({ answer, question }) => [question, answer._tag])]
      assert.deepStrictEqual(brief(runProgram(program)), brief(runProgram(program)))
    }, Math.ceil(runs / 4))
  })

  it("tell of a storm in events that, replayed, give exactly what every list says", { timeout: 600_000 }, async () => {
    await check(
      (program) => {
        const result = runProgram(program)
        assert.strictEqual(problems(result).join("\n"), "")
        assert.isAbove(result.calls.filter(({ answer }) => answer._tag === "Listed").length, 100)
        assert.isAbove(result.events.length, 200)
      },
      Math.ceil(runs / 10),
      Storm
    )
  })
})
