import { afterAll, assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Schedule, Scope, TestClock } from "effect"
import { JobCoordinator, JobError, JobId } from "../../src/index.ts"
import { live, mark, settle, simulated, simulatedAlive } from "../utils.ts"
import * as AgentShell from "./agentShell.ts"

const processes = mark()
afterAll(() => assert.deepStrictEqual(processes.alive(), []))

describe("an agent's shells", () => {
  it.scoped("are polled for what is new, a bounded part at a time, and answer what is typed", () =>
    Effect.gen(function*() {
      const shells = yield* AgentShell.make
      const id = yield* shells.start("psql")
      assert.strictEqual(yield* shells.poll(id), "=> \n[running]")
      assert.strictEqual(yield* shells.poll(id), "\n[running]")
      yield* shells.send(id, "sel")
      yield* shells.send(id, "ect 1\n")
      assert.strictEqual(yield* shells.poll(id), "1\n=> \n[running]")
      yield* shells.send(id, "dump\n")
      yield* settle
      const first = yield* shells.poll(id)
      assert.strictEqual(first, "ü".repeat(15_000) + "\n[there is more]")
      assert.strictEqual(yield* shells.poll(id), "ü".repeat(1_000) + "\n[running]")
      yield* shells.send(id, "\\q\n")
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* shells.poll(id), "bye\n[exited with code 0]")
      assert.strictEqual(yield* shells.kill(id), "exited with code 0")
      assert.strictEqual((yield* Effect.flip(shells.send(id, "more")))._tag, "JobAlreadyEnded")
    }).pipe(Effect.provide(simulated({
      psql: {
        output: [{ data: "=> " }],
        onInput: {
          "select 1": { output: [{ data: "1\n=> " }] },
          dump: { output: [{ data: "ü".repeat(16_000) }] },
          "\\q": { output: [{ data: "bye" }], end: { at: 1, code: 0 } }
        }
      }
    }))))

  it.effect("are listed and killed, and end with their session, and with no other", () =>
    Effect.gen(function*() {
      const mine = yield* Scope.make()
      const shells = yield* Scope.extend(AgentShell.make, mine)
      const others = yield* Scope.make()
      const other = yield* Scope.extend(AgentShell.make, others)
      const server = yield* shells.start("npm start")
      const stubborn = yield* shells.start("stubborn")
      yield* other.start("npm start")
      assert.strictEqual(yield* shells.list, `${server}: npm start [running]\n${stubborn}: stubborn [running]`)
      const killing = yield* Effect.fork(shells.kill(stubborn))
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* killing, "killed by SIGKILL")
      yield* Scope.close(mine, Exit.void)
      assert.deepStrictEqual([...yield* simulatedAlive], [1002])
      assert.match(yield* shells.list, /npm start \[killed by SIGTERM\]/)
      yield* Scope.close(others, Exit.void)
      assert.isEmpty(yield* simulatedAlive)
    }).pipe(Effect.provide(simulated({ "npm start": {}, stubborn: { ignores: ["SIGTERM"] } }))))

  it.scoped("say what is wrong with an id", () =>
    Effect.gen(function*() {
      const shells = yield* AgentShell.make
      const id = JobId.make()
      const calls: ReadonlyArray<Effect.Effect<unknown, JobError.JobError>> = [
        shells.poll(id),
        shells.kill(id),
        shells.send(id, "a")
      ]
      for (const call of calls) {
        assert.deepStrictEqual(yield* Effect.flip(call), new JobError.JobNotFound({ id }))
      }
    }).pipe(Effect.provide(simulated({}))))

  it.scopedLive("are real shells, of which nothing is left", () =>
    Effect.gen(function*() {
      yield* Effect.scoped(Effect.gen(function*() {
        const shells = yield* AgentShell.make
        const id = yield* shells.start("sleep 600 & while read -r name; do echo \"hello $name\"; done")
        let text = ""
        const says = (what: string) =>
          shells.poll(id).pipe(
            Effect.map((page) => text += page),
            Effect.repeat({ until: (text) => text.includes(what), schedule: Schedule.spaced("5 millis") })
          )
        yield* shells.send(id, "Ada\n")
        yield* says("hello Ada\n")
        yield* shells.send(id, "Böb\n")
        yield* says("hello Böb\n")
        assert.isNotEmpty(processes.alive())
      }))
      const jobs = yield* JobCoordinator.JobCoordinator
      assert.lengthOf(yield* jobs.list(), 1)
      assert.isEmpty(processes.alive())
    }).pipe(Effect.provide(live())))
})
