/**
 * Output in bulk, from real processes to many readers. `JOBLIB_TEST_FULL=1` tries as much as is promised.
 */
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { dirname } from "node:path"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import type * as JobConfig from "../src/JobConfig.ts"
import * as JobCoordinator from "../src/JobCoordinator.ts"
import type { JobId } from "../src/JobId.ts"
import * as JobSpec from "../src/JobSpec.ts"
import * as NodeProcessSpawner from "../src/NodeProcessSpawner.ts"
import * as Output from "../src/Output.ts"
import * as OutputCursor from "../src/OutputCursor.ts"
import * as OutputStore from "../src/OutputStore.ts"
import { hooked, type Hooks, sizeOf } from "./fixtures/fileSystems.ts"
import * as Processes from "./fixtures/processes.ts"
import { sh } from "./fixtures/programs.ts"
import * as Records from "./fixtures/records.ts"
import { numbers, size } from "./fixtures/sizes.ts"
import * as WallTime from "./fixtures/wallTime.ts"
import { live, mark, settings } from "./utils.ts"

const processes = mark()
afterAll(() => assert.deepStrictEqual(processes.alive(), [], "no process is left"))

const MiB = 1024 * 1024

type Jobs = JobCoordinator.JobCoordinator["Type"]

const test = (
  promise: string,
  body: (jobs: Jobs) => Effect.Effect<void, unknown, Scope.Scope>,
  partial?: JobConfig.PartialSettings
) =>
  it.scopedLive(
    promise,
    () => Effect.provide(Effect.flatMap(JobCoordinator.JobCoordinator, body), live(partial)),
    size(360_000, 240_000)
  )

const makeDirectory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(`${tmpdir()}/joblib-`)),
  (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true, force: true }))
)

const inFiles = ({ hooks = {}, ...options }: OutputStore.FileSystemOptions & { readonly hooks?: Hooks }) =>
  JobCoordinator.layerWithStore.pipe(
    Layer.provide(OutputStore.layerFileSystem(options)),
    Layer.provide(hooked(hooks)),
    Layer.provide(NodeProcessSpawner.layer),
    Layer.provide(settings())
  )

const read = <E>(reader: Records.Reader, output: Stream.Stream<Output.OutputChunk, E>) =>
  Stream.runForEachChunk(output, (chunks) => Effect.sync(() => reader.take(chunks)))

/** Reads zeros and remembers nothing but how many: they must follow each other, and be zeros. */
class Zeros {
  position = 0

  readonly take = (chunks: Iterable<Output.OutputChunk>) => {
    for (const { bytes, offset } of chunks) {
      assert.strictEqual(offset, this.position)
      this.position += bytes.length
      // Readers share their bytes: to look at them for each of a hundred would take longer than to read them.
      if (looked.has(bytes)) continue
      looked.add(bytes)
      if (Buffer.compare(zeros.subarray(0, bytes.length), bytes) !== 0) assert.fail("not what was written")
    }
  }
}

const looked = new WeakSet<Uint8Array>()

const zeros = Buffer.alloc(64 * 1024)

const head = (bytes: number) => JobSpec.make({ command: "head", args: ["-c", `${bytes}`, "/dev/zero"] })

setFlagsFromString("--expose-gc")
const collectGarbage: () => void = runInNewContext("gc")

/** Bytes of buffers that somebody holds. What is not held any more is given back a little later. */
const held = Effect.sync(collectGarbage).pipe(
  Effect.zipRight(Effect.sleep("20 millis")),
  Effect.repeatN(1),
  Effect.map(() => process.memoryUsage().arrayBuffers)
)

/** Looks at the memory in use, again and again; how to stop that, and to learn of the most that was held. */
const watchMemory = Effect.gen(function*() {
  const before = yield* held
  let most = 0
  const look = Effect.map(held, (bytes) => {
    most = Math.max(most, bytes - before)
  })
  const watching = yield* Effect.fork(Effect.forever(Effect.zipRight(look, Effect.sleep("200 millis"))))
  return Effect.map(Fiber.interrupt(watching), () => most)
})

const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.timed(effect), ([duration]) => Duration.toMillis(duration))

describe("numbered records", () => {
  const count = size(1_000_000, 200_000)

  const all = Records.bytes(count)

  for (const seed of numbers(size(20, 3))) {
    test(`${count} of them: whoever joins at any moment, from any offset, sees the rest exactly (seed ${seed})`, (jobs) =>
      Effect.gen(function*() {
        const id = yield* jobs.start(Records.job(count))
        yield* Effect.forEach(numbers(20), () =>
          Effect.gen(function*() {
            const delay = yield* Random.nextIntBetween(0, size(100, 30))
            const from = yield* Random.nextIntBetween(0, all.length)
            yield* Effect.sleep(delay)
            const reader = new Records.Reader(all, from)
            yield* read(reader, jobs.output(id, { from }))
            reader.complete()
          }), { concurrency: "unbounded", discard: true })
      }).pipe(Effect.withRandom(Random.make(seed))))
  }

  test(
    "readers that are cut off at any moment and resume by offset see every byte once",
    (jobs) =>
      Effect.gen(function*() {
        let disconnects = 0
        const wanted = size(1000, 200)
        while (disconnects < wanted) {
          const id = yield* jobs.start(Records.job(count))
          yield* Effect.forEach(numbers(10), () =>
            Effect.gen(function*() {
              const reader = new Records.Reader(all)
              while (reader.position < all.length) {
                const from = reader.position
                const leave = yield* Random.nextIntBetween(0, 4000)
                const reading = yield* Effect.fork(read(reader, jobs.output(id, { from })))
                for (let turn = 0; turn < leave % 40; turn++) yield* nextTurn
                if (leave % 7 === 0) yield* Effect.sleep(leave % 3)
                const exit = yield* Fiber.interrupt(reading)
                if (Exit.isFailure(exit)) disconnects++
              }
              reader.complete()
            }), { concurrency: "unbounded", discard: true })
          yield* jobs.wait(id)
          yield* jobs.remove(id)
        }
      }).pipe(Effect.withRandom(Random.make("disconnects"))),
    { output: { maxBytesPerJob: 64 * MiB } }
  )
})

const nextTurn = Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))

describe("more than is kept", () => {
  const bytes = size(1024, 48) * MiB

  /** How long so many readers take that keep up. */
  const fast = (jobs: Jobs, id: JobId, readers: number) =>
    timed(Effect.forEach(numbers(readers), () => {
      const reader = new Zeros()
      return Effect.map(
        Stream.runForEachChunk(jobs.output(id), (chunks) => Effect.sync(() => reader.take(chunks))),
        () => assert.strictEqual(reader.position, bytes)
      )
    }, { concurrency: "unbounded", discard: true }))

  test(`${bytes / MiB} MiB to 99 readers and one that stands still: as if it were not there, in bounded memory`, (jobs) =>
    Effect.gen(function*() {
      const alone: Array<number> = []
      const beside: Array<number> = []
      const stopWatching = yield* watchMemory
      for (let round = 0; round < size(3, 1); round++) {
        const first = yield* jobs.start(head(bytes))
        alone.push(yield* fast(jobs, first, 99))
        yield* jobs.remove(first)
        const id = yield* jobs.start(head(bytes))
        yield* Effect.scoped(Effect.gen(function*() {
          const frozen = yield* jobs.pull(id)
          beside.push(yield* fast(jobs, id, 99))
          const { evictedBytes } = (yield* jobs.info(id)).output
          const error = yield* Effect.flip(frozen)
          assert.deepInclude(Option.getOrThrow(error), { _tag: "OutputEvicted", id, from: 0, to: evictedBytes })
          const rest = new Zeros()
          rest.position = evictedBytes
          yield* Stream.runForEachChunk(
            jobs.output(id, { from: evictedBytes }),
            (chunks) => Effect.sync(() => rest.take(chunks))
          )
          assert.strictEqual(rest.position, bytes)
        }))
        yield* jobs.remove(id)
      }
      const most = yield* stopWatching
      // What is kept, what a reader has in hand, and what has been read and not yet looked at.
      assert.isAtMost(most, 64 * MiB)
      const [a, b] = [alone, beside].map((times) => times.sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0)
      yield* Effect.log(
        `alone ${alone.map(Math.round)} ms, beside a frozen one ${beside.map(Math.round)} ms; ${
          Math.round(most / MiB)
        } MiB held`
      )
      WallTime.assertWithin(b ?? 0, (a ?? 0) * 1.5 + 1000)
    }))
})

describe("a reader that the job waits for", () => {
  const bytes = size(2048, 96) * MiB

  /** 20 MB in a second, then as fast as it goes. */
  const slowly = (reader: Zeros, slow: number) => {
    let begin: number | undefined
    return (chunks: Iterable<Output.OutputChunk>) =>
      Effect.suspend(() => {
        begin ??= Date.now()
        reader.take(chunks)
        const due = begin + reader.position / 20_000
        return Date.now() - begin < slow && due > Date.now() ? Effect.sleep(due - Date.now()) : Effect.void
      })
  }

  test(`gets ${bytes / MiB} MiB of a fast job, slowly and then quickly, in bounded memory`, (jobs) =>
    Effect.gen(function*() {
      const stopWatching = yield* watchMemory
      const id = yield* jobs.start(head(bytes))
      const reader = new Zeros()
      yield* Stream.runForEachChunk(jobs.output(id, { whenBehind: "block" }), slowly(reader, size(10_000, 1000)))
      assert.strictEqual(reader.position, bytes)
      assert.isAtMost(yield* stopWatching, 64 * MiB)
      assert.isAtMost((yield* jobs.info(id)).output.evictedBytes, bytes)
    }))

  for (const how of ["interrupted", "failing", "satisfied"] as const) {
    test(`lets the job run to its end when it leaves half-way: ${how}`, (jobs) =>
      Effect.gen(function*() {
        const id = yield* jobs.start(head(bytes))
        const reader = new Zeros()
        const half = yield* Deferred.make<void>()
        const reading = yield* Stream.runForEachChunk(jobs.output(id, { whenBehind: "block" }), (chunks) =>
          Effect.suspend(() => {
            reader.take(chunks)
            if (reader.position < bytes / 2) {
              return Effect.void
            }
            const stay = how === "interrupted" ? Effect.never : how === "failing" ? Effect.fail("enough") : Effect.void
            return Effect.zipRight(Deferred.succeed(half, undefined), stay)
          })).pipe(
            how === "satisfied" ? Effect.race(Deferred.await(half)) : (_) =>
              _,
            Effect.fork
          )
        yield* Deferred.await(half)
        if (how === "interrupted") {
          const stuck = Effect.map(jobs.info(id), (info) =>
            info.output.stdoutBytes)
          yield* Processes.eventually(() => reader.position, (position) => position >= bytes / 2)
          assert.isBelow(yield* stuck, bytes)
          yield* Fiber.interrupt(reading)
        }
        yield* Effect.timeout(jobs.wait(id), "200 seconds")
        assert.strictEqual((yield* jobs.info(id)).output.stdoutBytes, bytes)
      }))
  }
})

describe("a program that never stops writing", () => {
  const cap = 10 * MiB

  it.scopedLive(
    "fills no more of the disk than its cap and a segment, and no other job notices",
    () =>
      Effect.gen(function*() {
        const directory = yield* makeDirectory
        let most = 0
        // Looked at after every write, before the next.
        const hooks: Hooks = {
          write: (path, bytes, go) =>
            Effect.tap(go(bytes), () =>
              Effect.sync(() => {
                most = Math.max(most, sizeOf(dirname(path)))
              }))
        }
        yield* Effect.gen(function*() {
          const jobs = yield* JobCoordinator.JobCoordinator
          const id = yield* jobs.start(JobSpec.make({ command: "yes", output: { maxBytes: cap } }))
          const until = Date.now() + size(30_000, 2000)
          const records = Records.bytes(100_000)
          let others = 0
          const evicted = Effect.map(jobs.info(id), (info) => info.output.evictedBytes)
          while (Date.now() < until || (yield* evicted) <= cap) {
            const other = yield* jobs.start(Records.job(100_000))
            const reader = new Records.Reader(records)
            yield* read(reader, jobs.output(other))
            reader.complete()
            yield* jobs.remove(other)
            others++
          }
          yield* jobs.stop(id)
          const { output } = yield* jobs.info(id)
          assert.deepStrictEqual(output.storeError, Option.none())
          assert.isAbove(output.evictedBytes, cap)
          const kept = yield* Stream.runFold(jobs.output(id, { from: { tail: cap } }), 0, (n, _) => n + _.bytes.length)
          assert.isAtLeast(kept, cap / 2)
          yield* Effect.log(`${Math.round(output.stdoutBytes / MiB)} MiB written, ${others} other jobs`)
        }).pipe(Effect.provide(inFiles({ directory, hooks })))
        yield* Effect.log(`at most ${(most / MiB).toFixed(1)} MiB on the disk`)
        assert.isAtMost(most, cap + cap / 4)
      }),
    240_000
  )
})

describe("every byte", () => {
  const node = (script: string) => JobSpec.make({ command: process.execPath, args: ["-e", script] })

  /** What is written, and by what. */
  const cases: ReadonlyArray<readonly [string, JobSpec.JobSpec, Buffer]> = [
    [
      "all 256 values",
      node("require('fs').writeSync(1, Buffer.from(Array.from({ length: 65536 }, (_, i) => i)))"),
      Buffer.from(Array.from({ length: 65_536 }, (_, i) => i))
    ],
    [
      "UTF-8 that is cut in its characters",
      node(`
      const fs = require("fs"); const bytes = Buffer.from("aé€😀".repeat(200))
      for (let i = 0; i < bytes.length; i += 3) fs.writeSync(1, bytes.subarray(i, i + 3))`),
      Buffer.from("aé€😀".repeat(200))
    ],
    ["no newline", sh("printf 'no newline'"), Buffer.from("no newline")],
    ["nothing", sh("exit 3"), Buffer.alloc(0)],
    [
      "one byte at a time",
      sh("i=0; while [ $i -lt 2000 ]; do printf x; i=$((i+1)); done"),
      Buffer.from("x".repeat(2000))
    ],
    [
      "one byte at a time, by another process each",
      sh("for i in 1 2 3 4 5 6 7 8 9; do /bin/echo -n $i; done"),
      Buffer.from("123456789")
    ],
    [
      "just below, at and above the size of a small read",
      node(`
      const fs = require("fs"); for (const n of [4095, 4096, 4097, 65535, 65536, 65537]) fs.writeSync(1, Buffer.alloc(n, n))`),
      Buffer.concat([4095, 4096, 4097, 65_535, 65_536, 65_537].map((n) => Buffer.alloc(n, n)))
    ]
  ]

  const check = (jobs: Jobs, spec: JobSpec.JobSpec, bytes: Buffer) =>
    Effect.gen(function*() {
      const id = yield* jobs.start(spec)
      const early = yield* Effect.fork(Stream.runCollect(jobs.stdout(id)))
      yield* jobs.wait(id)
      const late = yield* Stream.runCollect(jobs.stdout(id))
      for (const chunks of [yield* Fiber.join(early), late]) {
        assert.isTrue(Buffer.concat(Array.from(chunks)).equals(bytes), "not what was written")
      }
      assert.strictEqual((yield* jobs.info(id)).output.stdoutBytes, bytes.length)
    })

  for (const [what, spec, bytes] of cases) {
    test(`${what}: exact, from memory`, (jobs) => check(jobs, spec, bytes))
    it.scopedLive(`${what}: exact, from files`, () =>
      Effect.flatMap(
        makeDirectory,
        (directory) =>
          Effect.flatMap(JobCoordinator.JobCoordinator, (jobs) => check(jobs, spec, bytes)).pipe(
            Effect.provide(inFiles({ directory, window: { maxBytesPerJob: 100 } }))
          )
      ))
  }
})

describe("what a late reader gets", () => {
  const script = sh(
    "head -c 3000000 /dev/zero; sleep 0.1; printf x >&2; head -c 1000000 /dev/zero >&2; sleep 0.1; printf y"
  )

  const check = (jobs: Jobs) =>
    Effect.gen(function*() {
      const id = yield* jobs.start(script)
      const early = Array.from(yield* Stream.runCollect(jobs.output(id)))
      yield* jobs.wait(id)
      /** When a byte came. */
      const timeOf = (chunks: ReadonlyArray<Output.OutputChunk>, offset: number) =>
        chunks.find((chunk) => chunk.offset <= offset && offset < chunk.offset + chunk.bytes.length)?.at.epochMillis ??
          0
      for (const [source, size] of [["all", 4_000_002], ["stdout", 3_000_001], ["stderr", 1_000_001]] as const) {
        const batches = Array.from(yield* Stream.runCollect(Stream.chunks(jobs.output(id, { source }))))
        const sizes = batches.map((batch) => Array.from(batch).reduce((size, { bytes }) => size + bytes.length, 0))
        assert.strictEqual(sizes.reduce((a, b) => a + b, 0), size)
        assert.isAtMost(Math.max(...sizes), 256 * 1024)
        const chunks = batches.flatMap((batch) => Array.from(batch))
        for (const { bytes } of chunks) assert.strictEqual(bytes.constructor, Uint8Array)
        for (const { at, offset } of chunks) assert.isBelow(Math.abs(at.epochMillis - timeOf(early, offset)), 10)
      }
      assert.isAtLeast(timeOf(early, 4_000_001) - timeOf(early, 0), 150)
    })

  test("are plain bytes, 256 KiB at a time, and when they came: from memory", check)

  it.scopedLive("are plain bytes, 256 KiB at a time, and when they came: from files", () =>
    Effect.flatMap(makeDirectory, (directory) =>
      Effect.flatMap(JobCoordinator.JobCoordinator, check).pipe(
        Effect.provide(inFiles({ directory, window: { maxBytesPerJob: 100_000 } }))
      )))

  test("from the end of a job that writes as fast as it can, is there at once", (jobs) =>
    Effect.gen(function*() {
      const id = yield* jobs.start(JobSpec.make({ command: "yes" }))
      yield* jobs.output(id).pipe(Stream.take(1), Stream.runDrain)
      for (let i = 0; i < 10; i++) {
        const batch = yield* jobs.output(id, { from: "end" }).pipe(
          Stream.chunks,
          Stream.runHead,
          Effect.timeout("200 seconds")
        )
        const size = Array.from(Option.getOrThrow(batch)).reduce((size, { bytes }) => size + bytes.length, 0)
        assert.isAtMost(size, 256 * 1024)
      }
      yield* jobs.stop(id)
    }))

  test("by polling 9 MB in steps of 30 KB while the job writes, characters cut everywhere: exactly the text", (jobs) =>
    Effect.gen(function*() {
      const id = yield* jobs.start(
        JobSpec.make({
          command: process.execPath,
          args: [
            "-e",
            `
          const fs = require("fs"); const bytes = Buffer.from("aé€😀\\n".repeat(5000)); let n = 0
          for (let written = 0; written < 9e6; written += bytes.length)
            for (let i = 0; i < bytes.length; i += 1009) fs.writeSync(n++ % 7 ? 1 : 2, bytes.subarray(i, i + 1009))`
          ]
        })
      )
      const texts = { stdout: "", stderr: "" }
      let page = yield* OutputCursor.read(id, OutputCursor.make(), { maxBytes: 30_000 })
      while (true) {
        for (const { source, text } of page.output) texts[source] += text
        if (!page.hasMore && page.hasEnded) break
        if (!page.hasMore) yield* nextTurn
        page = yield* OutputCursor.read(id, page.cursor, { maxBytes: 30_000 })
      }
      const whole = yield* jobs.output(id).pipe(Output.collect())
      assert.isAbove(whole.stdout.length + whole.stderr.length, 4e6)
      assert.isTrue(texts.stdout === whole.stdout && texts.stderr === whole.stderr)
    }).pipe(Effect.provideService(JobCoordinator.JobCoordinator, jobs)))
})

describe("subscriptions to a silent job", () => {
  const count = size(10_000, 2000)

  test(`${count} of them, opened and interrupted: none is left, and no memory`, (jobs) =>
    Effect.gen(function*() {
      const id = yield* jobs.start(JobSpec.make({ command: "sleep", args: ["600"] }))
      const round = Effect.gen(function*() {
        const fibers = yield* Effect.forEach(numbers(count / 10), (i) =>
          Effect.fork(Stream.runDrain(jobs.output(id, { whenBehind: (["fail", "skip", "block"] as const)[i % 3] }))))
        for (let i = 0; i < 5; i++) {
          yield* nextTurn
        }
        const one = yield* Effect.either(Effect.scoped(jobs.pull(id)))
        assert.deepInclude(Option.getOrThrow(Either.getLeft(one)), { _tag: "SubscriberLimitReached", scope: "job" })
        yield* Fiber.interruptAll(fibers)
      })
      const heap = Effect.sync(() => {
        collectGarbage()
        return process.memoryUsage().heapUsed
      })
      yield* round
      const before = yield* heap
      for (let i = 0; i < 10; i++) {
        yield* round
      }
      const left = (yield* heap) - before
      yield* Effect.log(`${left} bytes more after ${count} subscriptions`)
      // A waiting subscriber takes twenty times as much.
      assert.isAtMost(left, count * 1000)
      yield* jobs.stop(id)
    }), { maxSubscribersPerJob: count / 10 })
})
