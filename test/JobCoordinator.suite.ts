/**
 * What a coordinator promises whatever its processes are: one suite for all spawners.
 */
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as JobConfig from "../src/JobConfig.ts"
import { JobCoordinator } from "../src/JobCoordinator.ts"
import * as JobId from "../src/JobId.ts"
import { Exited, Killed } from "../src/JobStatus.ts"
import * as Output from "../src/Output.ts"
import type { ProcessSpawner } from "../src/ProcessSpawner.ts"
import type { Job } from "./fixtures/scripts.ts"
import { latin1, mark, over, textOf } from "./utils.ts"

export interface Setup {
  readonly name: string
  readonly spawner: Layer.Layer<ProcessSpawner>
  readonly job: Job
  /** How many jobs are started from 100 fibers, and how many one after the other. */
  readonly many: number
  readonly often: number
  /** Whether children that ignore the signal of a stop are ended. */
  readonly endsGroups: boolean
}

const running = { output: [{ data: "up" }] }
const short = { output: [{ data: "up" }], end: { code: 0 } }

const bytesOf = (chunks: Chunk.Chunk<Uint8Array>) => latin1(chunks)

export const suite = ({ endsGroups, job, many, name, often, spawner }: Setup) =>
  describe(name, () => {
    const processes = mark()
    afterAll(() => assert.deepStrictEqual(processes.alive(), [], "no process is left"))

    const stubborn = endsGroups ? { ignores: ["SIGTERM" as const] } : {}

    const test = (
      promise: string,
      effect: Effect.Effect<void, unknown, JobCoordinator | Scope.Scope>,
      partial: JobConfig.PartialSettings = {}
    ) => it.scopedLive(promise, () => Effect.provide(effect, over(spawner, partial)))

    /** A running job, once it has said so. */
    const up = Effect.fn(function*(...args: Parameters<Job>) {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(job(...args))
      yield* Stream.runHead(jobs.output(id))
      return id
    })

    describe("status", () => {
      test(
        "a long and a short job: running, then exited, then killed after a stop; a second stop is too late",
        Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const longId = yield* up(running)
          const shortId = yield* jobs.start(job({ end: { at: "20 millis", code: 0 } }))
          assert.strictEqual((yield* jobs.status(longId))._tag, "Running")
          assert.strictEqual((yield* jobs.status(shortId))._tag, "Running")
          assert.deepStrictEqual(yield* jobs.wait(shortId), new Exited({ code: 0 }))
          assert.deepStrictEqual(yield* jobs.status(shortId), new Exited({ code: 0 }))
          assert.strictEqual((yield* jobs.status(longId))._tag, "Running")
          assert.deepStrictEqual(yield* jobs.stop(longId), new Killed({ signal: "SIGTERM" }))
          assert.deepStrictEqual(yield* jobs.status(longId), new Killed({ signal: "SIGTERM" }))
          const tooLate = yield* Effect.flip(jobs.stop(longId))
          assert.strictEqual(tooLate._tag, "JobAlreadyEnded")
        })
      )

      for (const code of [0, 1, 127, 128, 143, 255]) {
        test(
          `Exited is exact: ${code}`,
          Effect.gen(function*() {
            const jobs = yield* JobCoordinator
            const id = yield* jobs.start(job({ end: { code } }))
            assert.deepStrictEqual(yield* jobs.wait(id), new Exited({ code }))
          })
        )
      }

      for (const signal of ["SIGKILL", "SIGTERM", "SIGSEGV", "SIGHUP", "SIGUSR1"] as const) {
        test(
          `Killed is exact: ${signal}, its own or ours`,
          Effect.gen(function*() {
            const jobs = yield* JobCoordinator
            const id = yield* jobs.start(job({ end: { signal } }))
            assert.deepStrictEqual(yield* jobs.wait(id), new Killed({ signal }))
            const other = yield* up(running)
            assert.deepStrictEqual(yield* jobs.stop(other, { signal }), new Killed({ signal }))
          })
        )
      }

      test(
        "an id that nobody got, or that is none at all, is JobNotFound everywhere",
        Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const ids = [JobId.make(), "", "nonsense", "../../etc/passwd", "\0", undefined, null, 7, {}]
          for (const id of ids as ReadonlyArray<JobId.JobId>) {
            const calls: ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>> = [
              jobs.stop(id),
              jobs.status(id),
              jobs.wait(id),
              jobs.info(id),
              jobs.remove(id),
              Stream.runDrain(jobs.output(id)),
              Effect.scoped(jobs.pull(id)),
              Stream.runDrain(jobs.stdout(id)),
              Stream.runDrain(jobs.stderr(id)),
              Stream.run(Stream.empty, jobs.input(id))
            ]
            for (const call of calls) assert.strictEqual((yield* Effect.flip(call))._tag, "JobNotFound")
          }
        })
      )
    })

    describe("output", () => {
      test(
        "is read back exactly, from each source and from both",
        Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const everyByte = Uint8Array.from({ length: 256 }, (_, byte) => byte)
          const id = yield* jobs.start(job({
            output: [{ data: "no newline" }, { source: "stderr", data: everyByte.slice() }],
            end: { code: 3 }
          }, {}))
          const stdout = yield* Stream.runCollect(jobs.stdout(id))
          const stderr = yield* Stream.runCollect(jobs.stderr(id))
          assert.strictEqual(bytesOf(stdout), "no newline")
          assert.strictEqual(bytesOf(stderr), latin1([everyByte]))
          const both = yield* Output.collect({ encoding: "windows-1252" })(jobs.output(id))
          assert.strictEqual(both.stdout, "no newline")
        })
      )

      test(
        "whoever comes later sees the same bytes at the same offsets, and then the end",
        Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const output = Array.from({ length: 10 }, (_, i) => ({
            at: `${5 * i} millis` as const,
            source: i % 2 === 0 ? "stdout" as const : "stderr" as const,
            data: `${i}`.repeat(i + 1)
          }))
          const id = yield* jobs.start(job({ output, end: { code: 0 } }))
          const read = Effect.map(
            Stream.runCollect(jobs.output(id)),
            (chunks) => Chunk.toReadonlyArray(chunks).flatMap((_) => Array.from(_.bytes, (byte) => [_.source, byte]))
          )
          const readers = yield* Effect.forEach(output, () => Effect.zipLeft(Effect.fork(read), Effect.sleep(5)))
          const [first, ...others] = yield* Effect.forEach(readers, Fiber.join)
          for (const other of others) assert.deepStrictEqual(other, first)
          assert.deepStrictEqual(yield* read, first)
          assert.lengthOf(first ?? [], 55)
        })
      )

      test(
        "a full log with a reader that blocks makes the job wait, and loses nothing",
        Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const data = "0123456789abcdef".repeat(256)
          const output = Array.from({ length: 25 }, () => ({ at: "100 millis" as const, data }))
          const id = yield* jobs.start(job({ output, end: { code: 0 } }, { output: { maxBytes: 10_000 } }))
          const chunks: Array<Output.OutputChunk> = []
          yield* Stream.runForEach(jobs.output(id, { whenBehind: "block" }), (chunk) => {
            chunks.push(chunk)
            return Effect.yieldNow()
          })
          assert.strictEqual(latin1(chunks.map((_) => _.bytes)), data.repeat(25))
          let offset = 0
          for (const chunk of chunks) {
            assert.strictEqual(chunk.offset, offset)
            offset += chunk.bytes.length
          }
        })
      )

      test(
        "a reader that blocks and never reads delays neither stop nor wait",
        Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const output = Array.from({ length: 25 }, () => ({ at: "100 millis" as const, data: "x".repeat(4096) }))
          const id = yield* jobs.start(job({ output }, {
            output: { maxBytes: 8192 }
          }))
          const frozen = yield* jobs.pull(id, { whenBehind: "block" })
          while ((yield* jobs.info(id)).output.stdoutBytes < 8192) yield* Effect.sleep(5)
          const wait = yield* Effect.fork(jobs.wait(id))
          yield* jobs.stop(id)
          yield* Fiber.join(wait)
          const { output: info } = yield* jobs.info(id)
          const kept = yield* Effect.iterate(0, {
            while: (size) => size < info.stdoutBytes,
            body: (size) =>
              Effect.map(frozen, (chunks) => chunks.reduce((sum, chunk) => sum + chunk.bytes.length, size))
          })
          assert.strictEqual(kept, info.stdoutBytes)
        })
      )
    })

    describe("right after the end", () => {
      const ends: ReadonlyArray<
        readonly [string, (id: JobId.JobId) => Effect.Effect<unknown, unknown, JobCoordinator>]
      > = [
        ["wait", (id) => Effect.flatMap(JobCoordinator, (jobs) => jobs.wait(id))],
        ["stop", (id) => Effect.flatMap(JobCoordinator, (jobs) => Effect.exit(jobs.stop(id)))],
        ["the end of a stream", (id) => Effect.flatMap(JobCoordinator, (jobs) => Stream.runDrain(jobs.output(id)))],
        [
          "the event",
          (id) =>
            Effect.flatMap(JobCoordinator, (jobs) =>
              Stream.runDrain(
                Stream.takeUntil(
                  jobs.events,
                  (event) => event._tag !== "JobRemoved" && event.info.id === id && Option.isSome(event.info.endedAt)
                )
              ))
        ]
      ]
      for (const [what, end] of ends) {
        test(
          `${what}: the job has ended, its place is free, its output complete, and it may be removed`,
          Effect.gen(function*() {
            const jobs = yield* JobCoordinator
            for (let i = 0; i < 20; i++) {
              const id = yield* jobs.start(job({ output: [{ data: "up" }], end: { at: `${i % 4} millis`, code: 0 } }))
              yield* end(id)
              const info = yield* jobs.info(id)
              assert.isTrue(Option.isSome(info.endedAt))
              assert.isTrue(Option.isSome(info.exitedAt))
              const next = yield* jobs.start(job(short))
              if (what !== "stop") {
                assert.strictEqual(yield* textOf(jobs.output(id, { follow: false })), "up")
              }
              assert.strictEqual((yield* Effect.flip(jobs.stop(id)))._tag, "JobAlreadyEnded")
              yield* jobs.remove(id)
              assert.strictEqual((yield* Effect.flip(jobs.status(id)))._tag, "JobNotFound")
              yield* jobs.wait(next)
              yield* jobs.remove(next)
            }
          }),
          { maxRunning: 1 }
        )
      }

      test(
        `start, wait, start: ${often} times with room for one, and never JobLimitReached`,
        Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          for (let i = 0; i < often; i++) yield* jobs.wait(yield* jobs.start(job({ end: { code: 0 } })))
          assert.lengthOf(yield* jobs.list(), often)
        }),
        { maxRunning: 1 }
      )
    })

    describe("many at once", () => {
      test(
        `${many} jobs from 100 fibers, each printing its own number on both streams`,
        Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const numbers = Array.from({ length: many }, (_, i) => i)
          const ids = yield* Effect.forEach(numbers, (i) =>
            jobs.start(job({
              output: [{ data: `out ${i}` }, { source: "stderr", data: `err ${i}` }],
              end: { code: i % 256 }
            })), { concurrency: 100 })
          yield* Effect.forEach(numbers, (i) =>
            Effect.gen(function*() {
              const id = ids[i] as JobId.JobId
              assert.strictEqual(bytesOf(yield* Stream.runCollect(jobs.stdout(id))), `out ${i}`)
              assert.strictEqual(bytesOf(yield* Stream.runCollect(jobs.stderr(id))), `err ${i}`)
              assert.deepStrictEqual(yield* jobs.wait(id), new Exited({ code: i % 256 }))
            }), { concurrency: 100 })
          assert.strictEqual(new Set(ids).size, many)
        })
      )

      test(
        "more jobs than maxRunning fail with JobLimitReached, and a place is free when a job has ended",
        Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const starts = yield* Effect.forEach(
            Array.from({ length: 10 }),
            () => Effect.either(jobs.start(job(running))),
            { concurrency: "unbounded" }
          )
          const ids = starts.flatMap((start) => start._tag === "Right" ? [start.right] : [])
          assert.lengthOf(ids, 3)
          for (const start of starts) {
            if (start._tag === "Left") assert.include(start.left, { _tag: "JobLimitReached", limit: 3 })
          }
          yield* jobs.stop(ids[0] as JobId.JobId)
          yield* jobs.start(job(running))
          assert.strictEqual((yield* Effect.flip(jobs.start(job(running))))._tag, "JobLimitReached")
        }),
        { maxRunning: 3 }
      )
    })

    describe("stopping", () => {
      test(
        "a job that ignores the signal is killed when its grace period is over",
        Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const id = yield* up({ output: [{ data: "up" }], ignores: ["SIGTERM"] })
          const begin = yield* Clock.currentTimeMillis
          assert.deepStrictEqual(
            yield* jobs.stop(id, { gracePeriod: "100 millis" }),
            new Killed({ signal: "SIGKILL" })
          )
          assert.isAtLeast((yield* Clock.currentTimeMillis) - begin, 99)
        })
      )

      test(
        endsGroups ? "the whole group ends, children that ignore the signal too" : "the signal goes to the whole group",
        Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const id = yield* up({ ...running, children: [{}, { ...stubborn, output: [{ data: "up" }] }] })
          assert.deepStrictEqual(
            yield* jobs.stop(id, { gracePeriod: "100 millis" }),
            new Killed({ signal: "SIGTERM" })
          )
        })
      )

      test(
        "what a leader leaves behind is ended after it; its status is the leader's",
        Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const id = yield* jobs.start(
            job({ end: { code: 7 }, children: endsGroups ? [{}, { output: [{ data: "child" }] }] : [] })
          )
          assert.deepStrictEqual(yield* jobs.wait(id), new Exited({ code: 7 }))
          assert.deepStrictEqual((yield* jobs.info(id)).stopReason, Option.none())
        })
      )

      test(
        "a pipe that something outside the group holds is cut, and the job's info says so",
        Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const id = yield* jobs.start(job(
            { ...short, children: [{ escaped: true, holdsPipes: true, end: { at: "1 second", code: 0 } }] },
            { drainTimeout: "50 millis" }
          ))
          assert.strictEqual(yield* textOf(jobs.output(id)), "up")
          assert.isTrue((yield* jobs.info(id)).output.cut)
          // It is not ours to end; the layer of real processes must not close before nothing is left, for this test.
          yield* Effect.sleep("1 second")
        })
      )

      test(
        "garbage among the options of stop counts as absent",
        Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const garbage: ReadonlyArray<unknown> = [
            { signal: "SIGNONSENSE" },
            { signal: 9 },
            { gracePeriod: "soon" },
            { gracePeriod: NaN },
            { gracePeriod: -1 },
            { gracePeriod: {} },
            { signal: null, gracePeriod: null },
            "SIGKILL",
            null
          ]
          for (const options of garbage) {
            const id = yield* up(running)
            assert.deepStrictEqual(
              yield* jobs.stop(id, options as { readonly signal?: "SIGTERM" }),
              new Killed({ signal: "SIGTERM" }),
              JSON.stringify(options)
            )
          }
        })
      )
    })

    describe("the table", () => {
      test(
        "lists jobs in the order of their starts, by status and labels",
        Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const one = yield* up(running, { labels: { kind: "a", stage: "test" } })
          const two = yield* jobs.start(job({ end: { code: 1 } }, { labels: { kind: "a" } }))
          const three = yield* up(running, { labels: { kind: "b", stage: "test" } })
          const four = yield* jobs.start(job({ end: { signal: "SIGKILL" } }, { labels: { kind: "b" } }))
          yield* jobs.wait(two)
          yield* jobs.wait(four)
          const list = (filter?: Parameters<typeof jobs.list>[0]) =>
            Effect.map(jobs.list(filter), (infos) => infos.map((info) => info.id))
          assert.deepStrictEqual(yield* list(), [one, two, three, four])
          assert.deepStrictEqual(yield* list({}), [one, two, three, four])
          assert.deepStrictEqual(yield* list({ status: "Running" }), [one, three])
          assert.deepStrictEqual(yield* list({ status: "Exited" }), [two])
          assert.deepStrictEqual(yield* list({ status: "Killed" }), [four])
          assert.deepStrictEqual(yield* list({ labels: { kind: "a" } }), [one, two])
          assert.deepStrictEqual(yield* list({ labels: { kind: "b", stage: "test" } }), [three])
          assert.deepStrictEqual(yield* list({ status: "Running", labels: { kind: "a" } }), [one])
          assert.deepStrictEqual(yield* list({ labels: { kind: "c" } }), [])
          assert.deepStrictEqual(yield* list({ labels: { toString: "x" } }), [])
          assert.strictEqual((yield* Effect.flip(jobs.remove(one)))._tag, "JobStillRunning")
          yield* jobs.remove(two)
          assert.deepStrictEqual(yield* list(), [one, three, four])
        })
      )

      test(
        "events tell of every job once, in order",
        Effect.gen(function*() {
          const jobs = yield* JobCoordinator
          const before = yield* up(running)
          const seen: Array<readonly [string, JobId.JobId]> = []
          const listening = yield* Effect.fork(Stream.runForEach(jobs.events, (event) =>
            Effect.sync(() => seen.push([event._tag, event._tag === "JobRemoved" ? event.id : event.info.id]))))
          while (seen.length === 0) {
            yield* Effect.yieldNow()
          }
          const after = yield* jobs.start(job(short))
          yield* jobs.wait(after)
          yield* jobs.remove(after)
          yield* jobs.stop(before)
          while (seen.length < 5) {
            yield* Effect.yieldNow()
          }
          yield* Fiber.interrupt(listening)
          assert.deepStrictEqual(seen, [
            ["JobStarted", before],
            ["JobStarted", after],
            ["JobEnded", after],
            ["JobRemoved", after],
            ["JobEnded", before]
          ])
        })
      )
    })

    describe("closing", () => {
      it.live("ends everything, the stubborn too, and all who wait get the true end", () =>
        Effect.gen(function*() {
          const scope = yield* Scope.make()
          const context = yield* Layer.buildWithScope(
            // Closing gives up a second after drainTimeout, which a busy machine may need.
            over(spawner, { stop: { gracePeriod: "200 millis" }, drainTimeout: "1 minute" }),
            scope
          )
          yield* Effect.gen(function*() {
            const jobs = yield* JobCoordinator
            const ids = yield* Effect.all([
              up(running),
              up({ ...running, ignores: ["SIGTERM"] }),
              up({ ...running, children: [stubborn] })
            ])
            const waits = yield* Effect.forEach(ids, (id) =>
              Effect.fork(jobs.wait(id)))
            const outputs = yield* Effect.forEach(ids, (id) =>
              Effect.fork(textOf(jobs.output(id))))
            yield* Effect.sleep("20 millis")
            yield* Scope.close(scope, Exit.void)
            assert.deepStrictEqual<unknown>(
              yield* Effect.forEach(waits, Fiber.join),
              (["SIGTERM", "SIGKILL", "SIGTERM"] as const).map((signal) => new Killed({ signal }))
            )
            assert.deepStrictEqual(yield* Effect.forEach(outputs, Fiber.join), ["up", "up", "up"])
          }).pipe(Effect.provide(context))
          assert.deepStrictEqual(processes.alive(), [])
        }))
    })
  })
