import { assert, describe, it, vi } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import { OutputLog } from "../src/internal/output/outputLog.ts"
import type * as JobConfig from "../src/JobConfig.ts"
import { JobCoordinator, layerWithStore } from "../src/JobCoordinator.ts"
import type { JobId } from "../src/JobId.ts"
import * as JobSpec from "../src/JobSpec.ts"
import type * as Output from "../src/Output.ts"
import { OutputStore, type StoredOutput } from "../src/OutputStore.ts"
import * as SimulatedProcesses from "../src/SimulatedProcesses.ts"
import { latin1, settle, simulated, textOf } from "./utils.ts"

/** A coordinator whose only program is `p`. */
const simulate = (script: SimulatedProcesses.Script, partial?: JobConfig.PartialSettings) =>
  Effect.provide(simulated({ p: script }, partial))

const start = (options: Partial<JobSpec.Options> = {}) =>
  Effect.flatMap(JobCoordinator, (jobs) => jobs.start(JobSpec.make({ command: "p", ...options })))

const chunksOf = (id: JobId, options?: Output.Options) =>
  Effect.flatMap(JobCoordinator, (jobs) =>
    Effect.map(
      Stream.runCollect(jobs.output(id, options)),
      (chunks) => Chunk.toReadonlyArray(chunks).map((_) => ({ ..._, bytes: latin1([_.bytes]) }))
    ))

const read = (id: JobId, options?: Output.Options) =>
  Effect.flatMap(JobCoordinator, (jobs) => textOf(jobs.output(id, options)))

/** What is forked now runs until it waits for something new. */
const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.zipLeft(Effect.fork(effect), settle)

const write = (at: number, data: string, source: Output.OutputSource = "stdout") => ({ at, data, source })

/** Six bytes of stdout, four of stderr, two of stdout; then the end, a second later. */
const mixed: SimulatedProcesses.Script = {
  output: [write(0, "abc"), write(0, "def"), write(0, "WXYZ", "stderr"), write(0, "gh")],
  end: { at: "1 second", code: 0 }
}

describe("where a reader begins", () => {
  const cases: ReadonlyArray<readonly [Output.Options, string, number]> = [
    [{}, "abcdefWXYZgh", 0],
    [{ from: "start" }, "abcdefWXYZgh", 0],
    [{ from: 0 }, "abcdefWXYZgh", 0],
    [{ from: -5 }, "abcdefWXYZgh", 0],
    [{ from: 1 }, "bcdefWXYZgh", 1],
    [{ from: 1.9 }, "bcdefWXYZgh", 1],
    [{ from: 7 }, "XYZgh", 7],
    [{ from: 11 }, "h", 11],
    [{ from: 12 }, "", 12],
    [{ from: "end" }, "", 12],
    [{ from: { tail: 3 } }, "Zgh", 9],
    [{ from: { tail: 100 } }, "abcdefWXYZgh", 0],
    [{ from: { tail: 0 } }, "", 12],
    [{ from: { tail: -1 } }, "", 12],
    [{ source: "stdout" }, "abcdefgh", 0],
    [{ source: "stderr" }, "WXYZ", 6],
    [{ source: "stdout", from: 4 }, "efgh", 4],
    [{ source: "stdout", from: 8 }, "gh", 10],
    [{ source: "stderr", from: 8 }, "YZ", 8],
    [{ source: "stderr", from: 10 }, "", 12],
    [{ source: "stdout", from: { tail: 3 } }, "fgh", 5],
    [{ source: "stderr", from: { tail: 3 } }, "XYZ", 7],
    [{ source: "stderr", from: { tail: 5 } }, "WXYZ", 6],
    [{ source: "stdout", from: "end" }, "", 12]
  ]

  it.effect("a chunk is cut to begin exactly there, in a running job and in one that has ended", () =>
    Effect.gen(function*() {
      const id = yield* start()
      const check = (when: string) =>
        Effect.gen(function*() {
          for (const [options, text, offset] of cases) {
            for (const follow of when === "ended" ? [false, true, undefined] : [false]) {
              const chunks = yield* chunksOf(id, { ...options, follow })
              assert.strictEqual(chunks.map((_) => _.bytes).join(""), text, JSON.stringify(options))
              if (text !== "") assert.strictEqual(chunks[0]?.offset, offset, JSON.stringify(options))
            }
          }
        })
      yield* check("running")
      const followers = yield* Effect.forEach(cases, ([options]) => fork(chunksOf(id, options)))
      yield* TestClock.adjust("1 second")
      for (const [index, follower] of followers.entries()) {
        assert.strictEqual((yield* Fiber.join(follower)).map((_) => _.bytes).join(""), cases[index]?.[1])
      }
      yield* check("ended")
    }).pipe(simulate(mixed)))

  it.effect("each chunk carries its source and the offset of its first byte", () =>
    Effect.gen(function*() {
      const id = yield* start()
      const chunks = yield* chunksOf(id, { follow: false })
      const bytes = chunks.flatMap(({ bytes, offset, source }) =>
        Array.from(bytes, (byte, index) => `${offset + index}${source}${byte}`)
      )
      const expected = Array.from("abcdefWXYZgh", (byte, index) =>
        `${index}${"WXYZ".includes(byte) ? "stderr" : "stdout"}${byte}`)
      assert.deepStrictEqual(bytes, expected)
    }).pipe(simulate(mixed)))

  it.effect("an offset above the head waits for it, or ends with the job", () =>
    Effect.gen(function*() {
      const id = yield* start()
      const reader = yield* fork(read(id, { from: 5 }))
      const beyond = yield* fork(read(id, { from: 1000, whenBehind: "block" }))
      assert.strictEqual(yield* read(id, { from: 5, follow: false }), "")
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(yield* Fiber.join(reader), "fgh")
      assert.strictEqual(yield* Fiber.join(beyond), "")
      assert.strictEqual(yield* read(id, { from: 1000 }), "")
    }).pipe(simulate({
      output: [write(0, "abc"), write(1000, "defg"), write(2000, "h")],
      end: { at: "3 seconds", code: 0 }
    })))

  it.effect("from the end: what comes from now on", () =>
    Effect.gen(function*() {
      const id = yield* start()
      const reader = yield* fork(read(id, { from: "end" }))
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(yield* Fiber.join(reader), "later")
    }).pipe(simulate({ output: [write(0, "now"), write(1000, "later")], end: { code: 0 } })))

  it.effect("a reader that dies resumes where it was, and misses nothing and sees nothing twice", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* start()
      let text = ""
      let from = 0
      while (text.length < 10) {
        yield* TestClock.adjust(100)
        yield* jobs.output(id, { from }).pipe(
          Stream.take(1),
          Stream.runForEach((chunk) =>
            Effect.sync(() => {
              text += latin1([chunk.bytes])
              from = chunk.offset + chunk.bytes.length
            })
          )
        )
      }
      assert.strictEqual(text, "0123456789")
    }).pipe(simulate({ output: Array.from({ length: 10 }, (_, i) => write(100 * i, `${i}`)) })))

  it.effect("maxBytes ends it after so many bytes of what is read; the next offset is what came and its length", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* start()
      const all = yield* read(id, { follow: false })
      for (const maxBytes of [1, 2, 5, 7, 12, 13]) {
        for (const source of ["all", "stdout", "stderr"] as const) {
          let text = ""
          let from = 0
          while (true) {
            const chunks = yield* chunksOf(id, { source, from, maxBytes, follow: false })
            const part = chunks.map((_) => _.bytes).join("")
            assert.isAtMost(part.length, maxBytes)
            text += part
            const last = chunks.at(-1)
            if (last === undefined) break
            from = last.offset + last.bytes.length
          }
          assert.strictEqual(text, source === "all" ? all : source === "stdout" ? "abcdefgh" : "WXYZ")
        }
      }
      // Also if more is to come, or has yet to come.
      assert.strictEqual(yield* read(id, { maxBytes: 7 }), "abcdefW")
      assert.strictEqual(latin1(yield* Stream.runCollect(jobs.stdout(id, { maxBytes: 7 }))), "abcdefg")
      assert.strictEqual(
        latin1(yield* Stream.runCollect(jobs.stderr(id, { maxBytes: 3, from: 8 }).pipe(Stream.take(1)))),
        "YZ"
      )
      const pull = yield* jobs.pull(id, { maxBytes: 4, from: 5 })
      assert.strictEqual(latin1((yield* pull).map((_) => _.bytes)), "fWXY")
      assert.isTrue(Option.isNone(yield* Effect.flip(pull)))
      const waits = yield* fork(read(id, { maxBytes: 14 }))
      assert.isNull(waits.unsafePoll())
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(waits), "abcdefWXYZgh")
      assert.strictEqual(yield* read(id, { maxBytes: 2.9 }), "ab")
      for (const maxBytes of [0, -1, NaN, 0.5, "many", {}] as Array<never>) {
        assert.strictEqual(yield* read(id, { maxBytes }), "", JSON.stringify(maxBytes))
      }
      for (const maxBytes of [null, undefined, Infinity] as Array<never>) {
        assert.strictEqual(yield* read(id, { maxBytes }), "abcdefWXYZgh")
      }
    }).pipe(Effect.scoped, simulate(mixed)))

  it.effect("each chunk says when its first byte was read", () =>
    Effect.gen(function*() {
      const id = yield* start()
      yield* TestClock.adjust("1 minute")
      const chunks = yield* chunksOf(id)
      assert.deepStrictEqual(chunks.map(({ at, bytes }) => [at.epochMillis, bytes]), [
        [0, "a"],
        [0, "b"],
        [10, "c"],
        [1000, "d"],
        [1000, "x".repeat(5000)],
        [60_000, "e"]
      ])
      assert.deepStrictEqual((yield* chunksOf(id, { from: 1, maxBytes: 2 })).map(({ at }) => at.epochMillis), [0, 10])
    }).pipe(simulate({
      output: [
        write(0, "a"),
        write(9, "b"),
        write(10, "c"),
        write(1000, "d"),
        write(1000, "x".repeat(5000), "stderr"),
        write(60_000, "e")
      ],
      end: { code: 0 }
    })))

  it.effect("a late reader gets batches of 256 KiB at most, whichever source it reads", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* start()
      yield* jobs.wait(id)
      for (const source of ["all", "stdout", "stderr"] as const) {
        const pull = yield* jobs.pull(id, { source })
        const sizes: Array<number> = []
        while (true) {
          const batch = yield* Effect.either(pull)
          if (batch._tag === "Left") break
          sizes.push(batch.right.reduce((size, { bytes }) => size + bytes.length, 0))
        }
        assert.strictEqual(
          sizes.reduce((a, b) => a + b, 0),
          source === "all" ? 3_000_000 : source === "stdout" ? 2_000_000 : 1_000_000
        )
        assert.isAtMost(Math.max(...sizes), 256 * 1024)
        assert.isAtMost(sizes.length, 13)
        const batches = yield* Stream.runCollect(Stream.chunks(jobs.output(id, { source })))
        assert.deepStrictEqual(
          Chunk.toReadonlyArray(batches).map(Chunk.reduce(0, (size, { bytes }) => size + bytes.length)),
          sizes
        )
      }
    }).pipe(
      Effect.scoped,
      simulate({
        output: [
          { data: new Uint8Array(1_000_000) },
          { data: new Uint8Array(1_000_000), source: "stderr" },
          ...Array.from({ length: 1000 }, () => ({ data: new Uint8Array(1000) }))
        ],
        end: { code: 0 }
      })
    ))

  it.effect("garbage among the options is no defect", () =>
    Effect.gen(function*() {
      const id = yield* start()
      for (const from of [null, undefined, NaN, "middle", {}, { tail: "3" }, { tail: NaN }, [], true] as Array<never>) {
        const exit = yield* Effect.exit(read(id, { from, follow: false }))
        assert.isTrue(Exit.isSuccess(exit), `${JSON.stringify(from)} ${exit}`)
      }
      for (const source of [null, "both", 7] as Array<never>) {
        const exit = yield* Effect.exit(read(id, { source, follow: false }))
        assert.isTrue(Exit.isSuccess(exit), `${JSON.stringify(source)} ${exit}`)
      }
      assert.isTrue(Exit.isSuccess(yield* Effect.exit(read(id, { whenBehind: "panic" as never, follow: false }))))
      yield* TestClock.adjust("1 second")
      assert.isTrue(Exit.isSuccess(yield* Effect.exit(read(id, null as never))))
    }).pipe(simulate(mixed)))
})

describe("a log that is full", () => {
  /** A hundred writes of 8 KiB, one a second; the log keeps 64 KiB. */
  const kilobytes = 8
  const size = kilobytes * 1024
  const data = (i: number) => String.fromCharCode(33 + i % 90).repeat(size)
  const flood: SimulatedProcesses.Script = {
    output: Array.from({ length: 100 }, (_, i) => write(1000 * i, data(i))),
    end: { code: 0 }
  }
  const bounded = { output: { maxBytes: 8 * size } }

  it.effect("a reader that falls behind is told exactly what is gone", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* start(bounded)
      const scope = yield* Scope.make()
      const pull = yield* Scope.extend(jobs.pull(id), scope)
      assert.lengthOf(yield* pull, 1)
      yield* TestClock.adjust("8 seconds")
      yield* settle
      // It is no more than at the limit.
      assert.lengthOf(yield* pull, 8)
      yield* TestClock.adjust("9 seconds")
      yield* settle
      const error = yield* Effect.flip(pull)
      assert.deepInclude(Option.getOrThrow(error), { _tag: "OutputEvicted", id, from: 9 * size, to: 10 * size })
      const late = yield* Effect.flip(read(id))
      assert.deepInclude(late, { _tag: "OutputEvicted", id, from: 0, to: 10 * size })
      assert.deepStrictEqual(
        yield* read(id, { from: 10 * size, follow: false }),
        [10, 11, 12, 13, 14, 15, 16, 17].map(data).join("")
      )
      const info = yield* jobs.info(id)
      assert.strictEqual(info.output.evictedBytes, 10 * size)
      assert.strictEqual(info.output.stdoutBytes, 18 * size)
      yield* Scope.close(scope, Exit.void)
    }).pipe(simulate(flood)))

  it.effect("with skip it goes on with what is kept, and the offsets show the gap", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* start(bounded)
      const chunks: Array<Output.OutputChunk> = []
      const pull = yield* jobs.pull(id, { whenBehind: "skip" })
      for (let i = 0; i < 2; i++) {
        chunks.push(...yield* pull)
        yield* TestClock.adjust("20 seconds")
        yield* settle
      }
      chunks.push(...yield* pull)
      assert.deepStrictEqual(chunks.map((_) => _.offset / size), [
        0,
        ...Array.from({ length: 8 }, (_, i) => 13 + i),
        ...Array.from({ length: 8 }, (_, i) => 33 + i)
      ])
      for (const { bytes, offset } of chunks) assert.strictEqual(latin1([bytes]), data(offset / size))
    }).pipe(Effect.scoped, simulate(flood)))

  it.effect("with skip, what was missed last shows as an empty chunk where it ends, and as one only", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* start(bounded)
      const pulls = yield* Effect.forEach(
        ["stdout", "stderr", "all"] as const,
        (source) => jobs.pull(id, { source, whenBehind: "skip" })
      )
      const [stdout, stderr, all] = pulls as [typeof pulls[0], typeof pulls[0], typeof pulls[0]]
      const glance = yield* jobs.pull(id, { whenBehind: "skip", follow: false })
      assert.lengthOf(yield* stdout, 1)
      yield* TestClock.adjust("1 hour")
      const restOf = (pull: typeof stdout) =>
        Effect.gen(function*() {
          const chunks: Array<Output.OutputChunk> = []
          yield* Effect.ignore(Effect.forever(Effect.map(pull, (batch) => chunks.push(...batch))))
          return chunks.map(({ bytes, offset, source }) => [source, offset, bytes.length])
        })
      // The second write of stdout is gone, and all that comes after it is of the other source.
      assert.deepStrictEqual(yield* restOf(stdout), [["stdout", 2 * size, 0]])
      const kept = Array.from({ length: 8 }, (_, i) => ["stderr", (14 + i) * size, size])
      assert.deepStrictEqual(yield* restOf(stderr), kept)
      assert.deepStrictEqual(yield* restOf(all), kept)
      // What was there when it began is gone; what is kept came afterwards.
      assert.deepStrictEqual((yield* restOf(glance)).map(([, offset, length]) => [offset, length]), [[size, 0]])
      assert.deepStrictEqual(
        (yield* chunksOf(id, { source: "stdout", whenBehind: "skip" })).map(({ bytes, offset }) => [bytes, offset]),
        [["", 2 * size]]
      )
      assert.deepStrictEqual(yield* chunksOf(id, { source: "stdout", whenBehind: "skip", from: 2 * size }), [])
      const error = yield* Effect.flip(read(id, { source: "stdout", from: size }))
      assert.deepInclude(error, { _tag: "OutputEvicted", from: size, to: 2 * size })
    }).pipe(
      Effect.scoped,
      simulate({
        output: Array.from({ length: 22 }, (_, i) => write(1000 * i, data(i), i < 2 ? "stdout" : "stderr")),
        end: { code: 0 }
      })
    ))

  it.effect("the last bytes of a source, or what is kept of them, never fail", () =>
    Effect.gen(function*() {
      const id = yield* start(bounded)
      yield* TestClock.adjust("99 seconds")
      for (const tail of [1, size, 8 * size - 1, 8 * size, 8 * size + 1, 1e9]) {
        const text = yield* read(id, { from: { tail }, follow: false })
        assert.strictEqual(text.length, Math.min(tail, 8 * size))
      }
    }).pipe(simulate(flood)))

  it.effect("with block the job waits, and goes on when its reader does", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* start(bounded)
      const pull = yield* jobs.pull(id, { whenBehind: "block" })
      yield* TestClock.adjust("1 hour")
      yield* settle
      const written = Effect.map(jobs.info(id), (info) => info.output.stdoutBytes)
      const before = yield* written
      assert.isAtLeast(before, 8 * size)
      assert.isAtMost(before, 9 * size)
      assert.strictEqual((yield* jobs.status(id))._tag, "Running")
      let text = latin1((yield* pull).map((_) => _.bytes))
      yield* settle
      assert.isAbove(yield* written, before)
      let batch = yield* Effect.either(pull)
      while (batch._tag === "Right") {
        text += latin1(batch.right.map((_) => _.bytes))
        batch = yield* Effect.either(pull)
      }
      assert.strictEqual(text, Array.from({ length: 100 }, (_, i) => data(i)).join(""))
      assert.isTrue(Option.isNone(batch.left))
    }).pipe(Effect.scoped, simulate(flood)))

  it.effect("a reader that blocks and leaves lets the job go on", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* start(bounded)
      const scope = yield* Scope.make()
      yield* Scope.extend(jobs.pull(id, { whenBehind: "block" }), scope)
      const wait = yield* fork(jobs.wait(id))
      yield* TestClock.adjust("1 hour")
      yield* settle
      assert.isNull(wait.unsafePoll())
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(wait)
    }).pipe(simulate(flood)))

  it.effect("the slowest of several readers that block decides; one that does not is never asked", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* start(bounded)
      const slow = yield* jobs.pull(id, { whenBehind: "block" })
      const fast = yield* fork(read(id, { whenBehind: "block" }))
      const other = yield* fork(read(id))
      yield* TestClock.adjust("1 hour")
      yield* settle
      assert.isNull(fast.unsafePoll())
      yield* Effect.ignore(Effect.forever(slow))
      const all = Array.from({ length: 100 }, (_, i) => data(i)).join("")
      assert.strictEqual(yield* Fiber.join(fast), all)
      assert.strictEqual(yield* Fiber.join(other), all)
    }).pipe(Effect.scoped, simulate(flood)))

  it.effect("a stop is not delayed by a reader that blocks, and all bytes that came are kept for it", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* start(bounded)
      const pull = yield* jobs.pull(id, { whenBehind: "block" })
      yield* TestClock.adjust("1 hour")
      yield* settle
      yield* jobs.stop(id)
      const { stdoutBytes } = (yield* jobs.info(id)).output
      assert.strictEqual((yield* pull).reduce((sum, chunk) => sum + chunk.bytes.length, 0), stdoutBytes)
      assert.isTrue(Option.isNone(yield* Effect.flip(pull)))
    }).pipe(Effect.scoped, simulate(flood)))

  it.effect("a reader of one source is behind only if bytes of that source are gone", () =>
    Effect.gen(function*() {
      const id = yield* start(bounded)
      const quiet = yield* fork(chunksOf(id, { source: "stderr" }))
      const both = yield* fork(Effect.flip(chunksOf(id, { from: "start" })))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(
        (yield* chunksOf(id, { source: "stderr", from: 3, follow: false })).map((_) => _.bytes),
        ["last words"]
      )
      const error = yield* Effect.flip(read(id, { source: "stderr", from: 0, follow: false }))
      assert.deepInclude(error, { _tag: "OutputEvicted", from: 0, to: 3 })
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual((yield* Fiber.join(quiet)).map((_) => _.bytes), ["hi!", "last words"])
      yield* Fiber.interrupt(both)
    }).pipe(simulate({
      output: [
        write(0, "hi!", "stderr"),
        ...Array.from({ length: 20 }, (_, i) => write(1000 * i, data(i))),
        write(20_000, "last words", "stderr")
      ],
      end: { at: "2 minutes", code: 0 }
    })))

  it.effect("maxBytes over all jobs: the oldest bytes of any job leave first, but for those that a reader pins", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const pinned = yield* start()
      const pull = yield* jobs.pull(pinned, { whenBehind: "block" })
      yield* TestClock.adjust("3 seconds")
      const old = yield* start()
      yield* TestClock.adjust("5 seconds")
      const young = yield* start()
      yield* TestClock.adjust("4 seconds")
      yield* settle
      const evicted = yield* Effect.forEach(
        [pinned, old, young],
        (id) => Effect.map(jobs.info(id), ({ output }) => [output.evictedBytes / size, output.stdoutBytes / size])
      )
      const kept = evicted.reduce((sum, [evicted = 0, written = 0]) => sum + written - evicted, 0)
      assert.strictEqual(evicted[0]?.[0], 0)
      assert.isAbove(evicted[1]?.[0] ?? 0, 0)
      assert.isAtMost(kept, 17)
      assert.isNotEmpty(yield* pull)
    }).pipe(Effect.scoped, simulate(flood, { output: { maxBytes: 16 * size } })))

  it.effect("what removed jobs kept is free for others, once their last reader has left", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const first = yield* start()
      const scope = yield* Scope.make()
      const pull = yield* Scope.extend(jobs.pull(first), scope)
      yield* TestClock.adjust("7 seconds")
      yield* jobs.stop(first)
      yield* jobs.remove(first)
      const second = yield* start()
      yield* TestClock.adjust("3 seconds")
      assert.lengthOf(yield* pull, 8)
      assert.isTrue(Option.isNone(yield* Effect.flip(pull)))
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust("4 seconds")
      assert.strictEqual((yield* jobs.info(second)).output.evictedBytes, 0)
      assert.lengthOf(yield* chunksOf(second, { follow: false }), 8)
    }).pipe(simulate(flood, { output: { maxBytes: 12 * size } })))
})

describe("subscribers", () => {
  it.effect("more than maxSubscribersPerJob fail, and a place is free at once", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* start()
      const one = yield* fork(read(id))
      for (let i = 0; i < 50; i++) {
        const scope = yield* Scope.make()
        yield* Scope.extend(jobs.pull(id), scope)
        const error = yield* Effect.flip(read(id))
        assert.deepInclude(error, { _tag: "SubscriberLimitReached", limit: 2, scope: "job" })
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(yield* read(id, { follow: false }), "abcdefWXYZgh")
      }
      yield* Fiber.interrupt(one)
    }).pipe(simulate(mixed, { maxSubscribersPerJob: 2 })))

  it.effect("more than maxSubscribers over all jobs fail, and a place is free at once for any job", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const ids = yield* Effect.all([start(), start(), start()])
      yield* Effect.scoped(Effect.gen(function*() {
        yield* jobs.pull(ids[0])
        yield* jobs.pull(ids[1])
        const error = yield* Effect.flip(read(ids[2]))
        assert.deepInclude(error, { _tag: "SubscriberLimitReached", limit: 2, scope: "total" })
      }))
      yield* jobs.pull(ids[0])
      // From one job to the next, while their actors are busy with others.
      for (let i = 0; i < 200; i++) {
        const id = ids[i % 3] as JobId
        const strangers = yield* Effect.forEach([1, 2, 3], () => Effect.fork(jobs.info(id)))
        assert.strictEqual(yield* read(id, { follow: false }), "abcdefWXYZgh", `${i}`)
        yield* Effect.forEach(strangers, Fiber.join)
      }
    }).pipe(Effect.scoped, simulate(mixed, { maxSubscribers: 2 })))

  it.effect("stdout and stderr are streams of bytes, and a stream may be run any number of times", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* start()
      const stdout = jobs.stdout(id, { follow: false })
      for (let i = 0; i < 3; i++) assert.strictEqual(latin1(yield* Stream.runCollect(stdout)), "abcdefgh")
      assert.strictEqual(latin1(yield* Stream.runCollect(jobs.stderr(id, { from: 7, follow: false }))), "XYZ")
      const source = { follow: false, source: "stdout" } as const
      assert.strictEqual(latin1(yield* Stream.runCollect(jobs.stderr(id, source))), "WXYZ")
    }).pipe(simulate(mixed)))

  it.effect("a pull that has ended or failed gives back its pin and its place, and a retry in its scope works", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* start({ output: { maxBytes: 10_000 } })
      yield* TestClock.adjust(500)
      for (let i = 0; i < 10; i++) {
        // One that fails: its first bytes are gone. It would keep the log full if it kept its pin.
        const late = yield* jobs.pull(id, { whenBehind: "block" })
        for (let i = 0; i < 2; i++) {
          assert.strictEqual(Option.getOrThrow(yield* Effect.flip(late))._tag, "OutputEvicted")
        }
        // One that ends.
        const glance = yield* jobs.pull(id, { whenBehind: "block", from: { tail: 100 }, follow: false })
        assert.lengthOf(yield* glance, 1)
        for (let i = 0; i < 2; i++) assert.isTrue(Option.isNone(yield* Effect.flip(glance)))
        // One that never had a place.
        const holder = yield* Scope.make()
        yield* Scope.extend(jobs.pull(id), holder)
        assert.strictEqual((yield* Effect.flip(jobs.pull(id)))._tag, "SubscriberLimitReached")
        yield* Scope.close(holder, Exit.void)
      }
      const wait = yield* fork(jobs.wait(id))
      yield* TestClock.adjust("1 hour")
      yield* settle
      assert.isNotNull(wait.unsafePoll())
    }).pipe(
      Effect.scoped,
      simulate(
        { output: Array.from({ length: 20 }, (_, i) => write(100 * i, "x".repeat(5000))), end: { code: 0 } },
        { maxSubscribersPerJob: 1 }
      )
    ))

  it.effect("several fibers on one pull: each batch goes to one of them, and the end to all", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* start()
      const pull = yield* jobs.pull(id)
      const seen: Array<Output.OutputChunk> = []
      const fibers = yield* Effect.forEach(
        [1, 2, 3, 4],
        () => Effect.fork(Effect.flip(Effect.forever(Effect.map(pull, (batch) => seen.push(...batch)))))
      )
      for (let i = 0; i < 25; i++) {
        // Those that wait may leave.
        const one = yield* fork(pull)
        yield* TestClock.adjust(200)
        yield* settle
        const exit = yield* Fiber.interrupt(one)
        if (Exit.isSuccess(exit)) seen.push(...exit.value)
      }
      for (const fiber of fibers) assert.isTrue(Option.isNone(yield* Fiber.join(fiber)))
      const text = latin1(seen.sort((a, b) => a.offset - b.offset).map((_) => _.bytes))
      assert.strictEqual(text, Array.from({ length: 40 }, (_, i) => `${i};`).join(""))
    }).pipe(
      Effect.scoped,
      simulate({ output: Array.from({ length: 40 }, (_, i) => write(100 * i, `${i};`)), end: { code: 0 } })
    ))

  it.effect("an interrupted pull loses nothing, and pulls on", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* start()
      const pull = yield* jobs.pull(id)
      assert.isNotEmpty(yield* pull)
      for (let i = 0; i < 10; i++) yield* Fiber.interrupt(yield* fork(pull))
      const last = yield* fork(pull)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(latin1((yield* Fiber.join(last)).map((_) => _.bytes)), "second")
    }).pipe(Effect.scoped, simulate({ output: [write(0, "first"), write(1000, "second")] })))
})

describe("whatever is written and read, and when", () => {
  const Writes = FastCheck.array(
    FastCheck.record({
      at: FastCheck.integer({ min: 0, max: 50 }),
      source: FastCheck.constantFrom("stdout" as const, "stderr" as const),
      size: FastCheck.oneof(FastCheck.integer({ min: 0, max: 50 }), FastCheck.integer({ min: 3000, max: 9000 }))
    }),
    { maxLength: 60 }
  )
  const Reader = FastCheck.record({
    at: FastCheck.integer({ min: 0, max: 60 }),
    pause: FastCheck.integer({ min: 0, max: 20 }),
    source: FastCheck.constantFrom("all" as const, "stdout" as const, "stderr" as const),
    from: FastCheck.oneof(
      FastCheck.constantFrom("start" as const, "end" as const),
      FastCheck.integer({ min: 0, max: 100_000 }),
      FastCheck.record({ tail: FastCheck.integer({ min: 0, max: 50_000 }) })
    ),
    follow: FastCheck.boolean(),
    whenBehind: FastCheck.constantFrom("fail" as const, "skip" as const, "block" as const)
  })

  it.effect(
    "readers get the bytes of their sources, in order, exactly, or are told which are gone",
    () =>
      Effect.promise(() =>
        FastCheck.assert(
          FastCheck.asyncProperty(
            Writes,
            FastCheck.array(Reader, { maxLength: 8 }),
            FastCheck.integer({ min: 1, max: 60_000 }),
            (writes, readers, maxBytes) => Effect.runPromise(check(writes, readers, maxBytes))
          ),
          { numRuns: 15, seed: Number(process.env["JOBLIB_TEST_SEED"] ?? 1) }
        )
      ),
    180_000
  )

  const check = (
    writes: ReadonlyArray<{ readonly at: number; readonly source: Output.OutputSource; readonly size: number }>,
    readers: ReadonlyArray<{ readonly at: number; readonly pause: number } & Output.Options>,
    maxBytes: number
  ) => {
    let n = 0
    const output = Array.from(writes).sort((a, b) => a.at - b.at).map(({ at, size, source }) => ({
      at,
      source,
      data: Uint8Array.from({ length: size }, () => n++ * 31 % 251)
    }))
    const all = output.flatMap(({ data, source }) => Array.from(data, (byte) => ({ source, byte })))
    return Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* start({ output: { maxBytes } })
      const fibers = yield* Effect.forEach(readers, ({ at, pause, ...options }) =>
        Effect.fork(Effect.gen(function*() {
          yield* Effect.sleep(at)
          const seen: Array<Output.OutputChunk> = []
          const exit = yield* Stream.runForEachChunk(jobs.output(id, options), (chunks) => {
            seen.push(...chunks)
            return Effect.sleep(pause)
          }).pipe(Effect.exit)
          return { options, seen, exit }
        })))
      while (fibers.some((fiber) => fiber.unsafePoll() === null)) {
        yield* TestClock.adjust(10)
        yield* settle
      }
      yield* TestClock.adjust(100)
      const results = yield* Effect.forEach(fibers, Fiber.join)
      for (const { exit, options, seen } of results) {
        let position = -1
        let gaps = 0
        for (const { bytes, offset, source } of seen) {
          assert.isAtLeast(offset, position)
          // An empty chunk shows what was missed, if nothing else does.
          if (bytes.length === 0) {
            assert.strictEqual(seen.at(-1)?.offset, offset)
            assert.isTrue(options.whenBehind === "skip" || typeof options.from === "object")
          }
          if (position >= 0) {
            gaps += all.slice(position, offset).filter((_) =>
              options.source === "all" || _.source === options.source
            ).length
          }
          bytes.forEach((byte, index) => assert.deepStrictEqual({ source, byte }, all[offset + index]))
          if (options.source !== "all") assert.strictEqual(source, options.source)
          position = offset + bytes.length
        }
        if (options.whenBehind !== "skip") assert.strictEqual(gaps, 0)
        if (Exit.isFailure(exit)) {
          const error = Option.getOrThrow(Cause.failureOption(exit.cause))
          assert.strictEqual(error._tag, "OutputEvicted")
          // One that blocks can only come too late.
          if (options.whenBehind === "block") assert.lengthOf(seen, 0)
          assert.notStrictEqual(options.whenBehind, "skip")
          if (error._tag === "OutputEvicted") {
            assert.isBelow(error.from, error.to)
            if (position >= 0) assert.strictEqual(error.from, position)
          }
        } else if (options.follow === true && position >= 0) {
          const rest = all.slice(position).filter((_) => options.source === "all" || _.source === options.source)
          assert.lengthOf(rest, 0)
        }
      }
      yield* jobs.wait(id)
    }).pipe(simulate({ output, end: { code: 0 } }), Effect.provide(TestContext.TestContext))
  }
})

describe("a reader that the job waits for", () => {
  it.scoped("and a hundred of them, who move on together, cost one look at the log", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* start()
      const pulls = yield* Effect.replicateEffect(jobs.pull(id, { whenBehind: "block" }), 100)
      const reading = yield* fork(Effect.all(pulls, { concurrency: "unbounded" }))
      const makeRoom = vi.spyOn(OutputLog.prototype, "makeRoom")
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(reading)
      yield* settle
      const looks = makeRoom.mock.calls.length
      makeRoom.mockRestore()
      assert.isAtMost(looks, 10)
    }).pipe(simulate({ output: [write(1000, "hello")] })))

  for (
    const [options, name] of [[{ maxBytes: 10 }, "so many bytes"], [{ follow: false }, "what was there"]] as const
  ) {
    it.scoped(`and that wanted ${name} holds nothing up once it has had that`, () =>
      Effect.gen(function*() {
        const jobs = yield* JobCoordinator
        const id = yield* start({ output: { maxBytes: 1000 } })
        yield* settle
        const pull = yield* jobs.pull(id, { whenBehind: "block", ...options })
        yield* TestClock.adjust("1 second")
        yield* pull
        yield* settle
        assert.strictEqual((yield* jobs.info(id)).output.stdoutBytes, 100_100)
      }).pipe(simulate({
        output: [
          write(0, "a".repeat(100)),
          ...Array.from({ length: 100 }, () => ({ at: 1000, data: "b".repeat(1000) }))
        ]
      })))
  }
})

describe("a job that is removed while somebody begins to read it", () => {
  it.effect("is read, or not found", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const seen = new Set<string>()
      for (let i = 0; i < 12; i++) {
        const id = yield* start()
        yield* jobs.wait(id)
        const reader = yield* Effect.fork(Effect.merge(Effect.mapError(read(id), (error) => error._tag)))
        for (let turn = 0; turn < i; turn++) yield* Effect.yieldNow()
        yield* jobs.remove(id)
        seen.add(yield* Fiber.join(reader))
      }
      assert.deepStrictEqual(Array.from(seen).sort(), ["JobNotFound", "hello"])
    }).pipe(simulate({ output: [write(0, "hello")], end: { code: 0 } })))
})

describe("a store that dies", () => {
  const die = () => {
    throw new Error("dead")
  }
  const healthy: StoredOutput = {
    append: () => Effect.succeed(true),
    rest: Effect.void,
    read: () => Effect.succeed([]),
    start: () => 0,
    tail: () => Effect.succeed(0),
    remove: Effect.void
  }
  const layer = (open: () => StoredOutput) => {
    const store = { window: { maxBytesPerJob: 10, maxBytes: 1000 }, open: Option.some(() => Effect.succeed(open())) }
    return layerWithStore.pipe(
      Layer.provide(Layer.succeed(OutputStore, store)),
      Layer.provide(
        SimulatedProcesses.layer({ p: { output: [write(0, "hello"), write(0, "world!")], end: { code: 0 } } })
      )
    )
  }
  const cases: Record<string, () => StoredOutput> = {
    "as it is opened": die,
    "as it appends": () => ({ ...healthy, append: die }),
    "as it is read": () => ({ ...healthy, read: die }),
    "as it is read, later": () => ({ ...healthy, read: () => Effect.die("dead") }),
    "as it looks for a tail": () => ({ ...healthy, read: die, tail: die })
  }
  for (const [when, open] of Object.entries(cases)) {
    it.effect(`${when}: the job ends well, and its readers are told`, () =>
      Effect.gen(function*() {
        const jobs = yield* JobCoordinator
        const id = yield* start()
        assert.strictEqual((yield* jobs.wait(id))._tag, "Exited")
        const tag = (from: "start" | { readonly tail: number }) =>
          Effect.merge(Effect.mapError(read(id, { from }), (error) => error._tag))
        assert.strictEqual(yield* tag("start"), "OutputStoreError")
        // A tail is what is kept, unless that cannot be read.
        assert.strictEqual(
          yield* tag({ tail: 11 }),
          open === die || when === "as it appends" ? "world!" : "OutputStoreError"
        )
        assert.strictEqual(yield* read(id, { from: 5 }), "world!")
      }).pipe(Effect.provide(layer(open))))
  }
})
