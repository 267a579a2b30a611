/**
 * However a host dies, nothing of its jobs is left two seconds later. `JOBLIB_TEST_ROUNDS` says how often each death is
 * tried; default: once.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as Hosts from "./fixtures/hosts.ts"
import * as Processes from "./fixtures/processes.ts"
import * as WallTime from "./fixtures/wallTime.ts"

const rounds = Number(process.env["JOBLIB_TEST_ROUNDS"] ?? 1)

const random = Random.make(process.env["JOBLIB_TEST_SEED"])

const programs = Effect.runSync(Scope.make())
let program = ""

/** The guardians of the hosts that have died. */
const guardians: Array<number> = []

beforeAll(async () => {
  program = await Effect.runPromise(Scope.extend(Hosts.build("host.ts"), programs))
})

afterAll(() => Effect.runPromise(Scope.close(programs, Exit.void)))

/** Does this to a host, and checks that nothing of its jobs is left two seconds after its end. */
const kill = (host: Hosts.Host, how: Effect.Effect<unknown>) =>
  Effect.gen(function*() {
    const [, guardian] = yield* host.says(/^guardian (\d+)$/m)
    guardians.push(Number(guardian))
    yield* how
    yield* host.exited
    const begin = performance.now()
    yield* Processes.none(() => Processes.carrying(host.token))
    WallTime.assertWithin(performance.now() - begin, 2000)
  })

const signal = (host: Hosts.Host, signal: NodeJS.Signals) => Effect.sync(() => process.kill(host.pid, signal))

describe.each(Hosts.deaths)("a host that ends by %s", (death) => {
  /** A signal comes from outside, at any instruction of the host; the rest it does to itself. */
  const die = (host: Hosts.Host, delay: number): Effect.Effect<unknown> =>
    death.startsWith("SIG") ? Effect.delay(signal(host, death as NodeJS.Signals), delay) : Effect.void

  const idle = (jobs: number, runMain: boolean) =>
    Effect.gen(function*() {
      const host = yield* Hosts.start(program, { jobs, job: Hosts.family, death, dieAt: "idle", runMain })
      yield* host.says(/^idle$/m)
      yield* kill(host, die(host, 0))
    })

  const busy = (jobs: number, runMain: boolean) =>
    Effect.gen(function*() {
      const dieAt = yield* random.nextRange(0, 10 + 3 * jobs)
      const host = yield* Hosts.start(program, { jobs, job: Hosts.family, death, dieAt, runMain })
      yield* host.says(/^starting$/m)
      yield* kill(host, die(host, dieAt))
    })

  /** Every other host runs under `NodeRuntime.runMain`. */
  const repeat = (round: (runMain: boolean) => Effect.Effect<void, never, Scope.Scope>) =>
    Effect.forEach(Array.from({ length: rounds }, (_, n) => n % 2 === 1), (runMain) => Effect.scoped(round(runMain)))

  for (const jobs of [1, 50]) {
    it.live(`idle with ${jobs}`, () => repeat((runMain) => idle(jobs, runMain)), 60_000 + rounds * 5_000)
    it.live(`while it starts ${jobs}`, () => repeat((runMain) => busy(jobs, runMain)), 60_000 + rounds * 5_000)
  }
})

describe("a host that ends by SIGKILL", () => {
  it.scopedLive("leaves none of its jobs that ignore SIGTERM", () =>
    Effect.gen(function*() {
      const host = yield* Hosts.start(program, { jobs: 5, job: Hosts.stubbornFamily })
      yield* host.says(/^idle$/m)
      yield* kill(host, signal(host, "SIGKILL"))
    }))

  it.scopedLive("leaves no shell that made pipes for it", () =>
    Effect.gen(function*() {
      const host = yield* Hosts.start(program, { jobs: 2, job: Hosts.family })
      yield* host.says(/^idle$/m)
      const makers = Processes.pipeMakersOf(host.pid)
      assert.lengthOf(makers, 1)
      yield* kill(host, signal(host, "SIGKILL"))
      yield* Processes.none(() => makers.filter(Processes.isAlive))
    }))

  it.scopedLive("leaves nothing when its whole process group is killed with it", () =>
    Effect.gen(function*() {
      const host = yield* Hosts.start(program, { jobs: 5, job: Hosts.family })
      yield* host.says(/^idle$/m)
      yield* kill(host, Effect.sync(() => process.kill(-host.pid, "SIGKILL")))
    }))

  it.scopedLive("leaves nothing though its guardian was killed before, not even what carries no mark", () =>
    Effect.gen(function*() {
      const host = yield* Hosts.start(program, { jobs: 5, job: Hosts.unmarkedFamily })
      yield* host.says(/^idle$/m)
      const killed = Processes.guardiansOf(host.pid)
      assert.lengthOf(killed, 1)
      killed.forEach((pid) => process.kill(pid, "SIGKILL"))
      yield* Processes.eventually(
        () => Processes.guardiansOf(host.pid),
        (guardians) => guardians.length === 1 && guardians[0] !== killed[0]
      )
      yield* kill(host, signal(host, "SIGKILL"))
    }))

  it.scopedLive("leaves nothing of the hosts among its jobs, nor of their jobs", () =>
    Effect.gen(function*() {
      const inner = JSON.stringify({ jobs: 3, job: Hosts.stubbornFamily })
      const host = yield* Hosts.start(program, { jobs: 3, job: [process.execPath, program, inner] })
      yield* host.says(/^idle$/m)
      assert.lengthOf(Processes.carrying(host.token), 1 + 3 * (1 + 3 * 3))
      guardians.push(...Processes.carrying(host.token).flatMap(Processes.guardiansOf))
      yield* kill(host, signal(host, "SIGKILL"))
    }))
})

describe("a guardian", () => {
  it.scopedLive("does not keep its host alive", () =>
    Effect.gen(function*() {
      const host = yield* Hosts.start(program, { jobs: 0, death: "leave" })
      assert.strictEqual(yield* host.exited, 0)
    }))

  it.live("goes when its work is done, and nothing comes after it", () =>
    Effect.gen(function*() {
      yield* Processes.none(() => guardians.filter(Processes.isGuardian))
      assert.isEmpty(Processes.carrying(Hosts.everyToken))
    }))
})
