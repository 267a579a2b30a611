import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import type * as JobConfig from "../src/JobConfig.ts"
import * as JobCoordinator from "../src/JobCoordinator.ts"
import type { OutputEvicted, OutputStoreError } from "../src/JobError.ts"
import type { JobId } from "../src/JobId.ts"
import * as JobSpec from "../src/JobSpec.ts"
import * as NodeProcessSpawner from "../src/NodeProcessSpawner.ts"
import type { OutputChunk, OutputSource } from "../src/Output.ts"
import * as OutputStore from "../src/OutputStore.ts"
import * as SimulatedProcesses from "../src/SimulatedProcesses.ts"
import { hooked, type Hooks, noSpace, sizeOf } from "./fixtures/fileSystems.ts"
import * as OrderFiles from "./fixtures/orderFiles.ts"
import * as Processes from "./fixtures/processes.ts"
import { sh } from "./fixtures/programs.ts"
import * as Records from "./fixtures/records.ts"
import { numbers, size } from "./fixtures/sizes.ts"
import * as WallTime from "./fixtures/wallTime.ts"
import { latin1, mark, settings, textOf } from "./utils.ts"

const processes = mark()
afterAll(() => assert.deepStrictEqual(processes.alive(), [], "no process is left"))

interface Setup extends Partial<OutputStore.FileSystemOptions> {
  readonly settings?: JobConfig.PartialSettings
  readonly hooks?: Hooks
  readonly scripts?: Parameters<typeof SimulatedProcesses.layer>[0]
}

/** A coordinator that keeps output in files, with a window in memory so small that most is read from disk. */
const over = ({ hooks = {}, scripts, settings: partial, ...options }: Setup & { readonly directory: string }) =>
  JobCoordinator.layerWithStore.pipe(
    Layer.provide(OutputStore.layerFileSystem({ window: { maxBytesPerJob: 10_000 }, ...options })),
    Layer.provide(hooked(hooks)),
    Layer.provide(scripts === undefined ? NodeProcessSpawner.layer : SimulatedProcesses.layer(scripts)),
    Layer.provide(settings(partial))
  )

const makeDirectory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(`${tmpdir()}/joblib-`)),
  (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true, force: true }))
)

type Jobs = JobCoordinator.JobCoordinator["Type"]

const test = (
  promise: string,
  setup: Setup | ((directory: string) => Setup),
  body: (jobs: Jobs, directory: string) => Effect.Effect<void, unknown, Scope.Scope>,
  timeout?: number
) =>
  it.scopedLive(
    promise,
    () =>
      Effect.flatMap(makeDirectory, (directory) =>
        Effect.flatMap(JobCoordinator.JobCoordinator, (jobs) =>
          body(jobs, directory)).pipe(
            Effect.provide(over({ directory, ...typeof setup === "function" ? setup(directory) : setup }))
          )),
    timeout
  )

/** A coordinator that the test itself closes. */
const open = (setup: Setup & { readonly directory: string }) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    const context = yield* Layer.buildWithScope(over(setup), scope)
    return { jobs: yield* Effect.provide(JobCoordinator.JobCoordinator, context), close: Scope.close(scope, Exit.void) }
  })

const read = <E>(reader: Records.Reader, output: Stream.Stream<OutputChunk, E>) =>
  Stream.runForEachChunk(output, (chunks) => Effect.sync(() => reader.take(chunks)))

/** The output of a job as its files have it. */
const restore = (folder: string): Buffer => {
  const names = Fs.readdirSync(folder).filter((name) => name.startsWith("order.")).sort()
  // The one that grows has no number, and comes last.
  names.sort((a, b) => Number(a === "order.bin") - Number(b === "order.bin"))
  return Buffer.concat(names.flatMap((name) => {
    const file = (source: string) => {
      const path = `${folder}/${name.replace("order", source).replace(".bin", ".log")}`
      return Fs.existsSync(path) ? Fs.readFileSync(path) : Buffer.alloc(0)
    }
    return OrderFiles.merge(Fs.readFileSync(`${folder}/${name}`), { stdout: file("stdout"), stderr: file("stderr") })
  }))
}

/** Waits until so many bytes have come to the disk: a job's end does not wait for that. */
const written = (folder: string, bytes: number) =>
  Processes.eventually(() => tryToRestore(folder).length, (length) => length === bytes)

/** Waits until what is on the disk ends with the last record of so many. */
const endWritten = (folder: string, count: number) => {
  const last = Records.bytes(count).subarray(-8)
  return Processes.eventually(() => tryToRestore(folder).subarray(-8), (end) => end.equals(last))
}

/** A file may be renamed or removed in the moment when it is read. */
const tryToRestore = (folder: string): Buffer => {
  try {
    return restore(folder)
  } catch {
    return Buffer.alloc(0)
  }
}

const takes = <A, E, R>(limit: Duration.DurationInput, effect: Effect.Effect<A, E, R>) =>
  Effect.orDie(Effect.timeout(effect, WallTime.limit(Duration.toMillis(limit))))

const twoSources = JobSpec.make({
  command: process.execPath,
  args: [
    "-e",
    `const fs = require("fs"); for (let i = 0; i < 20000; i++) {
      fs.writeSync(1, "out " + i + "\\n"); if (i % 3 === 0) fs.writeSync(2, "err " + i + "\\n") }`
  ]
})

const lines = (name: string, step: number) =>
  numbers(Math.ceil(20_000 / step)).map((i) => `${name} ${i * step}\n`).join("")

const of = (chunks: Iterable<OutputChunk>, source: OutputSource) =>
  latin1(Array.from(chunks).filter((chunk) => chunk.source === source).map((chunk) => chunk.bytes))

/** Files below a directory that this process has open. */
const openFiles = (directory: string) =>
  Fs.readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return [Fs.readlinkSync(`/proc/self/fd/${fd}`)]
    } catch {
      return []
    }
  }).filter((path) => path.startsWith(directory))

describe("what is kept in files", () => {
  test(
    "no file is open while nothing is written, though the job runs on",
    {},
    (jobs, directory) =>
      Effect.gen(function*() {
        const id = yield* jobs.start(sh("head -c 5000000 /dev/zero; echo error >&2; exec sleep 1000"))
        yield* written(`${directory}/${id}`, 5_000_006)
        yield* Processes.eventually(() => openFiles(directory), (files) => files.length === 0)
        yield* jobs.stop(id)
      })
  )

  test(
    "reaches early and late readers byte for byte, and is all in the files",
    { segmentBytes: 30_000 },
    (jobs) =>
      Effect.gen(function*() {
        const id = yield* jobs.start(twoSources)
        const early = yield* Effect.fork(Stream.runCollect(jobs.output(id)))
        yield* jobs.wait(id)
        const chunks = Array.from(yield* Stream.runCollect(jobs.output(id)))
        assert.strictEqual(of(chunks, "stdout"), lines("out", 1))
        assert.strictEqual(of(chunks, "stderr"), lines("err", 3))
        let offset = 0
        for (const chunk of chunks) {
          assert.strictEqual(chunk.offset, offset)
          offset += chunk.bytes.length
        }
        assert.strictEqual(of(yield* early, "stdout"), lines("out", 1))
        assert.strictEqual(latin1(yield* Stream.runCollect(jobs.stderr(id))), lines("err", 3))
        const tail = yield* Stream.runCollect(jobs.stderr(id, { from: { tail: 50_000 } }))
        assert.strictEqual(latin1(tail), lines("err", 3).slice(-50_000))
        assert.strictEqual((yield* jobs.info(id)).output.evictedBytes, 0)
      })
  )

  test(
    "is its owner's alone, and everybody's with grep",
    { segmentBytes: 30_000 },
    (jobs, directory) =>
      Effect.gen(function*() {
        const before = process.umask(0)
        const id = yield* jobs.start(twoSources).pipe(
          Effect.tap(jobs.wait),
          Effect.ensuring(Effect.sync(() => process.umask(before)))
        )
        const folder = `${directory}/${id}`
        yield* written(folder, lines("out", 1).length + lines("err", 3).length)
        assert.strictEqual(Fs.statSync(folder).mode & 0o777, 0o700)
        const names = Fs.readdirSync(folder)
        assert.isAbove(names.length, 6)
        for (const name of names) {
          assert.match(name, /^(stdout|stderr)(\.\d{6})?\.log$|^order(\.\d{6})?\.bin$/)
          assert.strictEqual(Fs.statSync(`${folder}/${name}`).mode & 0o777, 0o600)
        }
        const found = execFileSync("sh", ["-c", "cat stderr*.log | grep -c err"], { cwd: folder, encoding: "utf8" })
        assert.strictEqual(found, "6667\n")
      })
  )

  test(
    "is followed by tail -F, from one file to the next",
    { segmentBytes: 1000 },
    (jobs, directory) =>
      Effect.gen(function*() {
        const id = yield* jobs.start(JobSpec.make({ command: "cat", stdin: "pipe" }))
        const say = (line: string) =>
          Stream.run(Stream.concat(Stream.make(Buffer.from(`${line}\n`)), Stream.never), jobs.input(id))
        const writing = yield* Effect.fork(say("begin"))
        const path = `${directory}/${id}/stdout.log`
        yield* Processes.eventually(() => Fs.existsSync(path), (exists) => exists)
        const follower = yield* jobs.start(
          JobSpec.make({ command: "tail", args: ["-n", "+1", "-s", "0.05", "-F", path] })
        )
        const seen = (line: string) =>
          jobs.stdout(follower).pipe(
            Stream.decodeText(),
            Stream.splitLines,
            Stream.takeUntil((_) => _ === line),
            Stream.runDrain
          )
        yield* seen("begin")
        yield* Fiber.interrupt(writing)
        for (const line of ["one", "two", "three"].map((name) => name.padEnd(1200, "."))) {
          const writing = yield* Effect.fork(say(line))
          yield* seen(line)
          yield* Fiber.interrupt(writing)
        }
        assert.include(Fs.readdirSync(`${directory}/${id}`), "stdout.000002.log")
        yield* jobs.stop(follower)
        yield* jobs.stop(id)
      })
  )
})

/** Half a megabyte of records, of which 200,000 bytes at most are kept. */
const half = 64 * 1024

const records = Records.bytes(half)

describe("bounds", () => {
  /** The most that was ever on the disk, looked at after every write. */
  const watched = (directory: string) => {
    const most = { bytes: 0 }
    const hooks: Hooks = {
      write: (_, bytes, go) =>
        Effect.tap(go(bytes), () =>
          Effect.sync(() => {
            most.bytes = Math.max(most.bytes, sizeOf(directory))
          }))
    }
    return { most, hooks }
  }

  it.scopedLive("a job's: the disk has no more than its cap and one segment; the rest is evicted, and told so", () =>
    Effect.gen(function*() {
      const directory = yield* makeDirectory
      const { hooks, most } = watched(directory)
      const { jobs } = yield* open({ directory, hooks, maxBytesPerJob: 300_000, segmentBytes: 70_000 })
      const id = yield* jobs.start(Records.job(half * 4))
      const all = Records.bytes(half * 4)
      yield* jobs.wait(id)
      yield* endWritten(`${directory}/${id}`, half * 4)
      const files = restore(`${directory}/${id}`)
      assert.isTrue(all.subarray(-files.length).equals(files))
      assert.isAtMost(most.bytes, 370_000)
      // Whole segments leave, and how large they are depends on how much was written at once.
      assert.isAtLeast(sizeOf(directory), 150_000)
      const { evictedBytes } = (yield* jobs.info(id)).output
      const error = yield* Effect.flip(Stream.runDrain(jobs.output(id)))
      assert.deepInclude(error, { _tag: "OutputEvicted", id, from: 0, to: evictedBytes })
      const rest = new Records.Reader(all, (error as OutputEvicted).to)
      yield* read(rest, jobs.output(id, { from: (error as OutputEvicted).to }))
      rest.complete()
      const skipping = new Records.Reader(all)
      yield* read(skipping, jobs.output(id, { whenBehind: "skip" }))
      assert.deepStrictEqual(skipping.gaps, [[0, evictedBytes]])
      const tail = new Records.Reader(all, evictedBytes)
      yield* read(tail, jobs.output(id, { from: { tail: Infinity } }))
      tail.complete()
    }))

  it.scopedLive("that of all jobs: the oldest segments leave first, those of ended jobs too, and no more than must", () =>
    Effect.gen(function*() {
      const directory = yield* makeDirectory
      const { hooks, most } = watched(directory)
      const { jobs } = yield* open({ directory, hooks, maxBytes: 1_000_000, segmentBytes: 50_000 })
      const ids: Array<JobId> = []
      for (const round of [[half], [half, half], [half / 2]]) {
        const started = yield* Effect.forEach(round, (count) => jobs.start(Records.job(count)))
        ids.push(...started)
        yield* Effect.forEach(started, (id, i) =>
          Effect.zipRight(
            jobs.wait(id),
            endWritten(`${directory}/${id}`, round[i] ?? 0)
          ))
      }
      assert.isAtMost(most.bytes, 1_000_000 + 2 * 70_000)
      assert.isAtMost(sizeOf(directory), 1_000_000)
      assert.isAtLeast(sizeOf(directory), 1_000_000 - 70_000)
      const kept = ids.map((id) => sizeOf(`${directory}/${id}`))
      assert.isAtMost(kept[0] ?? 0, 0)
      assert.isAtLeast(kept[3] ?? 0, half / 2 * 8)
      yield* Effect.forEach(ids, (id, i) => {
        const reader = new Records.Reader(i === 3 ? records.subarray(0, half / 2 * 8) : records)
        return Effect.map(read(reader, jobs.output(id, { whenBehind: "skip" })), () => {
          assert.isAtMost(reader.gaps.length, 1)
        })
      })
    }))

  for (const which of ["maxBytesPerJob", "maxBytes"] as const) {
    test(
      `a job that has filled ${which} is stopped, if that is wanted`,
      { onFull: "stop", [which]: 200_000 },
      (jobs) =>
        Effect.gen(function*() {
          const id = yield* jobs.start(JobSpec.make({ command: "yes" }))
          yield* jobs.wait(id)
          const { output, stopReason } = yield* jobs.info(id)
          assert.deepStrictEqual(stopReason, Option.some("limit"))
          assert.deepStrictEqual(output.storeError, Option.none())
          let kept = 0
          const end = yield* Effect.either(Stream.runForEach(jobs.output(id), ({ bytes, offset }) =>
            Effect.sync(() => {
              assert.strictEqual(offset, kept)
              kept += bytes.length
            })))
          assert.isAtLeast(kept, 200_000)
          assert.isAtMost(kept, 200_000 + 1024 * 1024)
          if (end._tag === "Left") assert.deepInclude(end.left, { _tag: "OutputEvicted", from: kept })
        })
    )
  }

  test("what its spec says is the cap of a job; nonsense is no cap at all, and no defect", {
    maxBytes: NaN,
    maxBytesPerJob: -1,
    segmentBytes: NaN
  }, (jobs, directory) =>
    Effect.gen(function*() {
      const capped = yield* jobs.start(Records.job(half, { output: { maxBytes: 100_000 } }))
      const free = yield* jobs.start(Records.job(half))
      yield* Effect.forEach([capped, free], jobs.wait)
      yield* written(`${directory}/${free}`, records.length)
      yield* endWritten(`${directory}/${capped}`, half)
      assert.isAtMost(sizeOf(`${directory}/${capped}`), 100_000)
    }))
})

describe("a store that fails", () => {
  const say = (jobs: Jobs, id: JobId) =>
    Stream.run(Stream.concat(Stream.make(Buffer.from("\n")), Stream.never), jobs.input(id))

  /** What is promised whatever happens to the disk: the job ends as if nothing had, and nothing is wrong or left out. */
  const checkFailed = (jobs: Jobs, id: JobId, operation: OutputStoreError["operation"]) =>
    Effect.gen(function*() {
      yield* jobs.wait(id)
      const info = yield* jobs.info(id)
      assert.deepStrictEqual(info.stopReason, Option.none())
      assert.deepInclude(Option.getOrThrow(info.output.storeError), { _tag: "OutputStoreError", operation })
      assert.strictEqual(info.output.stdoutBytes, records.length)
      const cold = new Records.Reader(records)
      assert.strictEqual((yield* Effect.flip(read(cold, jobs.output(id))))._tag, "OutputStoreError")
      assert.deepStrictEqual(cold.gaps, [])
      const tail = Array.from(yield* Stream.runCollect(jobs.output(id, { from: { tail: Infinity } })))
      const reader = new Records.Reader(records, tail[0]?.offset)
      reader.take(tail)
      reader.complete()
      const skipping = new Records.Reader(records)
      const end = yield* Effect.either(read(skipping, jobs.output(id, { whenBehind: "skip" })))
      if (end._tag === "Left") assert.deepInclude(end.left, { _tag: "OutputStoreError", operation: "read" })
      else assert.strictEqual(skipping.position, records.length)
      return { evictedBytes: info.output.evictedBytes, kept: cold.position }
    })

  /** Fails a write once so much has been written, after half of it. */
  const full = (name: string, after: number): Hooks => {
    let size = 0
    return {
      write: (path, bytes, go) => {
        if (!path.endsWith(name)) return go(bytes)
        size += bytes.length
        return size <= after
          ? go(bytes)
          : Effect.zipRight(go(bytes.subarray(0, bytes.length / 2)), Effect.fail(noSpace))
      }
    }
  }

  for (const [name, after] of [["stdout.log", 0], ["stdout.log", 200_000], ["order.bin", 24]] as const) {
    test(`ENOSPC in the middle of a write to ${name} after ${after} bytes: what was stored before can be read`, {
      hooks: full(name, after)
    }, (jobs) =>
      Effect.gen(function*() {
        const id = yield* jobs.start(Records.job(half))
        const { evictedBytes, kept } = yield* checkFailed(jobs, id, "write")
        assert.isAbove(evictedBytes, 0)
        if (name === "stdout.log") assert.isAtMost(kept, after)
        if (after > 0) assert.isAbove(kept, 0)
      }))
  }

  test("one that dies of a file that it cannot close: the job ends, and is told so", {
    hooks: { open: (_, go) => Effect.zipRight(Effect.addFinalizer(() => Effect.die("EIO")), go) }
  }, (jobs) =>
    Effect.gen(function*() {
      const id = yield* jobs.start(Records.job(half))
      yield* jobs.wait(id)
      const { storeError } = (yield* jobs.info(id)).output
      assert.deepInclude(Option.getOrThrow(storeError), { operation: "write", cause: "EIO" })
      assert.strictEqual((yield* Effect.flip(Stream.runDrain(jobs.output(id))))._tag, "OutputStoreError")
    }))

  const mount = (directory: string) => {
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k", "joblib-test", directory], { stdio: "pipe" })
      return true
    } catch {
      return false
    }
  }

  const probe = Fs.mkdtempSync(`${tmpdir()}/joblib-`)
  const canMount = mount(probe)
  if (canMount) execFileSync("umount", [probe])
  Fs.rmdirSync(probe)

  it.scopedLive(
    canMount
      ? "a disk that is full: a tmpfs of 256 KiB; other jobs go on, and new ones begin when there is room"
      : "a disk that is full: a directory that cannot be made, for want of the right to mount a small tmpfs",
    () =>
      Effect.gen(function*() {
        const directory = yield* makeDirectory
        const disk = `${directory}/disk`
        if (canMount) {
          Fs.mkdirSync(disk)
          yield* Effect.acquireRelease(
            Effect.sync(() => mount(disk)),
            () => Effect.sync(() => execFileSync("umount", ["-l", disk]))
          )
        } else Fs.writeFileSync(disk, "a file")
        const { close, jobs } = yield* open({ directory: disk })
        const ids = yield* Effect.forEach([1, 2], () => jobs.start(Records.job(half)))
        yield* Effect.forEach(ids, (id) => checkFailed(jobs, id, canMount ? "write" : "open"))
        yield* Effect.forEach(ids, jobs.remove)
        if (canMount) {
          yield* Processes.eventually(() => Fs.readdirSync(disk), (names) => names.length === 0)
          const id = yield* jobs.start(Records.job(1000))
          yield* jobs.wait(id)
          yield* written(`${disk}/${id}`, 8000)
        }
        yield* close
      })
  )

  const isRoot = process.getuid?.() === 0
  const troubles: ReadonlyArray<readonly [string, (folder: string) => void]> = [
    ["deleted", (folder) => Fs.rmSync(folder, { recursive: true })],
    ["replaced by a file", (folder) => {
      Fs.rmSync(folder, { recursive: true })
      Fs.writeFileSync(folder, "")
    }],
    [
      isRoot ? "made unwritable (a folder in the place of a file, because root may write anything)" : "made read-only",
      (folder) => {
        if (!isRoot) {
          for (const name of Fs.readdirSync(folder)) Fs.chmodSync(`${folder}/${name}`, 0o400)
          return
        }
        Fs.rmSync(`${folder}/stdout.log`)
        Fs.mkdirSync(`${folder}/stdout.log`)
      }
    ],
    ["filled with foreign files of the same names", (folder) => {
      for (const name of Fs.readdirSync(folder)) {
        Fs.rmSync(`${folder}/${name}`)
        Fs.writeFileSync(`${folder}/${name}`, "of somebody else")
      }
    }]
  ]
  for (const [trouble, make] of troubles) {
    test(
      `a job's folder that is ${trouble} while it runs: other jobs lose nothing`,
      {},
      (jobs, directory) =>
        Effect.gen(function*() {
          const inSteps = sh(`${Records.command(10)}; read go; seq 1000010 ${1_000_000 + half - 1}`, { stdin: "pipe" })
          const other = yield* jobs.start(inSteps)
          const id = yield* jobs.start(inSteps)
          for (const job of [id, other]) {
            yield* Processes.eventually(() => sizeOf(`${directory}/${job}`), (size) => size === 80 + 16)
          }
          make(`${directory}/${id}`)
          const early = new Records.Reader(records)
          const reading = yield* Effect.fork(read(early, jobs.output(other)))
          yield* Effect.forEach([id, other], (id) => Effect.fork(say(jobs, id)))
          yield* checkFailed(jobs, id, "write")
          yield* Fiber.join(reading)
          early.complete()
          yield* jobs.wait(other)
          assert.deepStrictEqual((yield* jobs.info(other)).output.storeError, Option.none())
          const late = new Records.Reader(records)
          yield* read(late, jobs.output(other))
          late.complete()
          const next = yield* jobs.start(Records.job(half))
          yield* jobs.wait(next)
          assert.deepStrictEqual((yield* jobs.info(next)).output.storeError, Option.none())
          yield* Effect.forEach([id, other, next], jobs.remove)
        })
    )
  }

  test(
    "the whole directory deleted while jobs run: those fail to store, later ones make it again",
    {},
    (jobs, directory) =>
      Effect.gen(function*() {
        const id = yield* jobs.start(sh(`${Records.command(10)}; read go; seq 1000010 ${1_000_000 + half - 1}`, {
          stdin: "pipe"
        }))
        yield* Processes.eventually(() => sizeOf(`${directory}/${id}`), (size) => size === 80 + 16)
        Fs.rmSync(directory, { recursive: true })
        yield* Effect.fork(say(jobs, id))
        yield* checkFailed(jobs, id, "write")
        const next = yield* jobs.start(Records.job(half))
        yield* jobs.wait(next)
        const reader = new Records.Reader(records)
        yield* read(reader, jobs.output(next))
        reader.complete()
      })
  )

  test("what cannot be evicted of one job is no trouble of another that needs the room", { maxBytes: 400_000 }, (
    jobs,
    directory
  ) =>
    Effect.gen(function*() {
      const broken = yield* jobs.start(Records.job(half / 2))
      yield* jobs.wait(broken)
      yield* written(`${directory}/${broken}`, half / 2 * 8)
      Fs.rmSync(`${directory}/${broken}`, { recursive: true })
      Fs.writeFileSync(`${directory}/${broken}`, "")
      const other = yield* jobs.start(Records.job(half))
      yield* jobs.wait(other)
      yield* endWritten(`${directory}/${other}`, half)
      assert.deepStrictEqual((yield* jobs.info(other)).output.storeError, Option.none())
    }))

  it.scopedLive("foreign files in the directory are left alone", () =>
    Effect.gen(function*() {
      const directory = yield* makeDirectory
      Fs.writeFileSync(`${directory}/stdout.log`, "mine")
      Fs.mkdirSync(`${directory}/order.bin`)
      const { close, jobs } = yield* open({ directory, maxBytes: 100_000 })
      const id = yield* jobs.start(Records.job(half))
      yield* jobs.wait(id)
      yield* jobs.remove(id)
      yield* close
      assert.deepStrictEqual(Fs.readdirSync(directory).sort(), ["order.bin", "stdout.log"])
      assert.strictEqual(Fs.readFileSync(`${directory}/stdout.log`, "utf8"), "mine")
    }))
})

describe("a store that is slow", () => {
  /** Holds every write up. */
  const slow = (delay: Effect.Effect<void>): Hooks => ({ write: (_, bytes, go) => Effect.zipRight(delay, go(bytes)) })

  it.scopedLive("closing waits for the writer: the files have everything", () =>
    Effect.gen(function*() {
      const directory = yield* makeDirectory
      const { close, jobs } = yield* open({
        directory,
        hooks: slow(Effect.sleep("20 millis")),
        window: { maxBytesPerJob: 1024 * 1024 }
      })
      const ids = yield* Effect.forEach(numbers(5), () => jobs.start(Records.job(half)))
      yield* Effect.forEach(ids, jobs.wait)
      yield* close
      for (const id of ids) assert.isTrue(restore(`${directory}/${id}`).equals(records), "incomplete")
    }))

  it.scopedLive("after wait the files have everything, however slow the disk", () =>
    Effect.gen(function*() {
      const directory = yield* makeDirectory
      const { jobs } = yield* open({
        directory,
        hooks: slow(Effect.sleep("50 millis")),
        window: { maxBytesPerJob: 1024 * 1024 }
      })
      const ids = yield* Effect.forEach(numbers(5), () => jobs.start(Records.job(half)))
      for (const id of ids) {
        yield* jobs.wait(id)
        assert.isTrue(restore(`${directory}/${id}`).equals(records), "incomplete")
      }
    }))

  it.scopedLive("one that cannot keep up slows the job, which loses nothing", () =>
    Effect.gen(function*() {
      const directory = yield* makeDirectory
      const { jobs } = yield* open({ directory, hooks: slow(Effect.sleep("5 millis")) })
      const id = yield* jobs.start(Records.job(half))
      const reader = new Records.Reader(records)
      yield* read(reader, jobs.output(id))
      reader.complete()
      const late = new Records.Reader(records)
      yield* read(late, jobs.output(id))
      late.complete()
    }))

  for (const operation of ["open", "write", "rename"] as const) {
    it.scopedLive(`one that hangs (${operation}) delays neither stop, nor wait, nor closing; readers at the head go on`, () =>
      Effect.gen(function*() {
        const directory = yield* makeDirectory
        const { close, jobs } = yield* open({
          directory,
          segmentBytes: 1000,
          stallTimeout: "100 millis",
          hooks: { [operation]: () => Effect.uninterruptible(Effect.never) },
          settings: { drainTimeout: "100 millis", stop: { gracePeriod: "100 millis" } }
        })
        const id = yield* jobs.start(JobSpec.make({ command: "yes" }))
        const ended = yield* jobs.start(JobSpec.make({ command: "echo", args: ["hello"] }))
        const first = yield* Stream.runHead(jobs.output(id))
        assert.isTrue(Option.isSome(first))
        yield* takes("5 seconds", jobs.wait(ended))
        assert.strictEqual(yield* textOf(jobs.output(ended)), "hello\n")
        yield* takes("5 seconds", jobs.stop(id))
        // Not from the start: what had been stored before it hung can only be read from it.
        yield* Stream.runDrain(jobs.output(id, { follow: false, from: { tail: 1000 } }))
        yield* jobs.remove(id)
        yield* jobs.start(JobSpec.make({ command: "yes" }))
        yield* takes("10 seconds", close)
      }))
  }

  it.scopedLive("one that hangs while it reads delays neither stop, nor wait, nor closing, nor the readers at the head", () =>
    Effect.gen(function*() {
      const directory = yield* makeDirectory
      const { close, jobs } = yield* open({ directory, hooks: { read: () => Effect.never } })
      const id = yield* jobs.start(sh(`${Records.command(half)}; exec sleep 600`))
      yield* Stream.runDrain(
        Stream.takeUntil(
          jobs.output(id, { whenBehind: "block" }),
          ({ bytes, offset }) => offset + bytes.length === records.length
        )
      )
      const cold = yield* Effect.forEach(numbers(100), () => Effect.fork(Stream.runDrain(jobs.output(id))))
      assert.isNotEmpty(yield* Stream.runCollect(jobs.output(id, { from: records.length - 1, follow: false })))
      yield* takes("5 seconds", jobs.stop(id))
      yield* takes("5 seconds", close)
      yield* takes("5 seconds", Fiber.interruptAll(cold))
    }))
})

describe("what is removed", () => {
  test(
    "leaves nothing, by remove and by retention",
    { settings: { retention: { maxEnded: 1 } } },
    (jobs, directory) =>
      Effect.gen(function*() {
        const one = yield* jobs.start(Records.job(half))
        yield* jobs.wait(one)
        const two = yield* jobs.start(Records.job(half))
        yield* jobs.wait(two)
        yield* Processes.eventually(() => Fs.readdirSync(directory), (names) => !names.includes(one))
        yield* jobs.remove(two)
        yield* Processes.eventually(() => Fs.readdirSync(directory), (names) => names.length === 0)
      })
  )

  test("stays as long as somebody reads it, who reads on to the end", {}, (jobs, directory) =>
    Effect.gen(function*() {
      const id = yield* jobs.start(Records.job(half))
      yield* jobs.wait(id)
      const reader = new Records.Reader(records)
      yield* Effect.scoped(Effect.gen(function*() {
        const pull = yield* jobs.pull(id)
        reader.take(yield* pull)
        yield* jobs.remove(id)
        yield* Effect.forever(Effect.map(pull, reader.take)).pipe(Effect.catchAll(() => Effect.void))
        assert.include(Fs.readdirSync(directory), id)
      }))
      reader.complete()
      yield* Processes.eventually(() => Fs.readdirSync(directory), (names) => names.length === 0)
    }))

  it.scopedLive("is gone when the layer has closed, and later if somebody still reads it", () =>
    Effect.gen(function*() {
      const directory = yield* makeDirectory
      const { close, jobs } = yield* open({ directory })
      const ids = yield* Effect.forEach(numbers(5), () => jobs.start(Records.job(half)))
      yield* Effect.forEach(ids, jobs.wait)
      const [kept, read, ...others] = ids as [JobId, JobId, ...ReadonlyArray<JobId>]
      const reader = new Records.Reader(records)
      yield* Effect.scoped(Effect.gen(function*() {
        const pull = yield* jobs.pull(read)
        yield* Effect.forEach([read, ...others], jobs.remove)
        yield* close
        assert.deepStrictEqual(Fs.readdirSync(directory).sort(), [kept, read].sort())
        yield* Effect.forever(Effect.map(pull, reader.take)).pipe(Effect.catchAll(() => Effect.void))
      }))
      reader.complete()
      yield* Processes.eventually(() => Fs.readdirSync(directory), (names) => names.length === 1)
      assert.isTrue(restore(`${directory}/${kept}`).equals(records))
    }))
})

describe("readers of what memory has lost", () => {
  const big = 1024 * 1024

  const bigRecords = Records.bytes(big)

  /** Counts what is read, and looks at the most that is read at once. */
  const counting = () => {
    const reads = { opens: 0, bytes: 0, atOnce: 0, most: 0 }
    const hooks: Hooks = {
      open: (_, go) => Effect.zipRight(Effect.sync(() => reads.opens++), go),
      read: (_, go) =>
        Effect.suspend(() => {
          reads.most = Math.max(reads.most, ++reads.atOnce)
          return Effect.ensuring(
            Effect.tap(go, (n) => Effect.sync(() => reads.bytes += Number(n))),
            Effect.sync(() => reads.atOnce--)
          )
        })
    }
    return { reads, hooks }
  }

  it.scopedLive("read 256 KiB at once, and 100 of them at once take no more memory than 16", () =>
    Effect.gen(function*() {
      const directory = yield* makeDirectory
      const { hooks, reads } = counting()
      const { jobs } = yield* open({ directory, hooks })
      const id = yield* jobs.start(Records.job(big))
      yield* jobs.wait(id)
      yield* written(`${directory}/${id}`, bigRecords.length)
      const before = { ...reads }
      const one = new Records.Reader(bigRecords)
      yield* read(one, jobs.output(id))
      one.complete()
      assert.isAtMost(reads.opens - before.opens, 2 * bigRecords.length / 1024 / 256 + 8)
      assert.isAtMost(reads.bytes - before.bytes, bigRecords.length + 100_000)
      const descriptors = () => Fs.readdirSync("/proc/self/fd").length
      const openBefore = descriptors()
      yield* Effect.forEach(numbers(100), (i) => {
        const reader = new Records.Reader(bigRecords, i * 1000)
        return Effect.map(read(reader, jobs.output(id, { from: i * 1000 })), reader.complete)
      }, { concurrency: "unbounded" })
      assert.isAtMost(reads.most, 16)
      yield* Effect.forEach(numbers(20), () => Effect.fork(Effect.forever(Stream.runDrain(jobs.output(id))))).pipe(
        Effect.tap(() => Effect.sleep("50 millis")),
        Effect.flatMap(Fiber.interruptAll)
      )
      yield* Processes.eventually(descriptors, (open) => open <= openBefore)
    }))

  it.scopedLive("of a source that is rare read next to nothing of the other", () =>
    Effect.gen(function*() {
      const directory = yield* makeDirectory
      const { hooks, reads } = counting()
      const { jobs } = yield* open({ directory, hooks })
      const id = yield* jobs.start(
        sh(`echo first >&2; ${Records.command(big)}; echo last >&2; ${Records.command(half)}`)
      )
      yield* jobs.wait(id)
      yield* written(`${directory}/${id}`, bigRecords.length + records.length + 11)
      const before = { ...reads }
      assert.strictEqual(latin1(yield* Stream.runCollect(jobs.stderr(id))), "first\nlast\n")
      const tail = yield* Stream.runCollect(jobs.stderr(id, { from: { tail: 7 } }))
      assert.strictEqual(latin1(tail), "first\nlast\n".slice(-7))
      assert.isAtMost(reads.bytes - before.bytes, 150_000)
    }))

  it.scopedLive(
    "never keep the job waiting, however many they are and however long they read",
    () =>
      Effect.gen(function*() {
        const directory = yield* makeDirectory
        const { jobs } = yield* open({ directory, segmentBytes: 300_000 })
        const old = yield* jobs.start(
          sh(`${Records.command(half)}; read go; ${Records.command(big)}`, { stdin: "pipe" })
        )
        yield* written(`${directory}/${old}`, records.length)
        const cold = yield* Effect.forEach(numbers(50), () =>
          Effect.fork(Effect.forever(Stream.runDrain(jobs.output(old, { follow: false })))))
        yield* Effect.fork(Stream.run(Stream.concat(Stream.make(Buffer.from("\n")), Stream.never), jobs.input(old)))
        yield* takes("20 seconds", jobs.wait(old))
        yield* takes("20 seconds", written(`${directory}/${old}`, records.length + bigRecords.length))
        yield* Fiber.interruptAll(cold)
      }),
    240_000
  )

  it.scopedLive("get every byte or are told what is gone, while segments are renamed and leave under their hands", () =>
    Effect.gen(function*() {
      const directory = yield* makeDirectory
      const { jobs } = yield* open({ directory, maxBytesPerJob: 400_000, segmentBytes: 20_000 })
      const id = yield* jobs.start(Records.job(big))
      yield* Effect.forEach(numbers(40), (i) =>
        Effect.gen(function*() {
          const reader = new Records.Reader(bigRecords)
          if (i % 2 === 0) {
            yield* read(reader, jobs.output(id, { whenBehind: "skip" }))
          } else {
            // Resumes where it is told to.
            while (reader.position < bigRecords.length) {
              const from = reader.position
              const end = yield* Effect.either(read(reader, jobs.output(id, { from })))
              assert.deepStrictEqual(reader.gaps, [])
              if (end._tag === "Right") break
              assert.deepInclude(end.left, { _tag: "OutputEvicted", from: reader.position })
              reader.position = (end.left as OutputEvicted).to
            }
          }
          assert.strictEqual(reader.position, bigRecords.length)
        }), { concurrency: "unbounded", discard: true })
    }))

  for (const whenBehind of ["fail", "skip"] as const) {
    it.scopedLive(`that is evicted while it is read are told so, or skip it: ${whenBehind}`, () =>
      Effect.gen(function*() {
        const directory = yield* makeDirectory
        let reading = false
        const { jobs } = yield* open({
          directory,
          maxBytesPerJob: 600_000,
          segmentBytes: 50_000,
          hooks: {
            // Only readers open what has a number.
            open: (path, go) => {
              if (reading || !path.endsWith("order.000001.bin")) return go
              reading = true
              return Effect.zipRight(Processes.eventually(() => Fs.existsSync(path), (exists) => !exists), go)
            }
          }
        })
        const id = yield* jobs.start(sh(`${Records.command(half)}; read go; seq 1065536 ${1_000_000 + big - 1}`, {
          stdin: "pipe"
        }))
        yield* written(`${directory}/${id}`, records.length)
        const reader = new Records.Reader(bigRecords)
        const fiber = yield* Effect.fork(Effect.either(read(reader, jobs.output(id, { whenBehind }))))
        yield* Processes.eventually(() => reading, (reading) => reading)
        yield* Effect.fork(Stream.run(Stream.concat(Stream.make(Buffer.from("\n")), Stream.never), jobs.input(id)))
        const end = yield* Fiber.join(fiber)
        if (whenBehind === "skip") {
          assert.strictEqual(reader.position, bigRecords.length)
          assert.strictEqual(reader.gaps[0]?.[0], 0)
        } else {
          assert.deepInclude(Option.getOrThrow(Either.getLeft(end)), { _tag: "OutputEvicted", from: 0 })
          assert.strictEqual(reader.position, 0)
        }
      }))
  }

  for (const tail of [10_000, 100_000, Infinity]) {
    for (const source of ["all", "stdout"] as const) {
      it.scopedLive(`in a tail do not fail it, though it is evicted before it is read: ${tail} of ${source}`, () =>
        Effect.gen(function*() {
          const directory = yield* makeDirectory
          const { jobs } = yield* open({ directory, maxBytesPerJob: 200_000, segmentBytes: 20_000 })
          const id = yield* jobs.start(JobSpec.make({ command: "yes" }))
          yield* Stream.runDrain(
            Stream.takeUntil(jobs.output(id, { whenBehind: "skip" }), ({ offset }) => offset > 1_000_000)
          )
          const pull = yield* jobs.pull(id, { from: { tail }, source })
          yield* Stream.runDrain(
            Stream.takeUntil(jobs.output(id, { whenBehind: "skip" }), ({ offset }) => offset > 2_000_000)
          )
          assert.isNotEmpty(yield* pull)
          yield* jobs.stop(id)
        }))
    }
  }
})

describe("with whenBehind block", () => {
  const cap = { maxBytesPerJob: 100_000, maxBytes: 150_000, segmentBytes: 10_000 }

  test(
    "nothing that a reader has not had is evicted, of memory or disk, by its job or another",
    cap,
    (jobs, directory) =>
      Effect.gen(function*() {
        const id = yield* jobs.start(sh(`${Records.command(8000)}; read go; seq 1008000 ${1_000_000 + half - 1}`, {
          stdin: "pipe"
        }))
        yield* written(`${directory}/${id}`, 64_000)
        const reader = new Records.Reader(records)
        yield* Effect.scoped(Effect.gen(function*() {
          const pull = yield* jobs.pull(id, { whenBehind: "block" })
          yield* Effect.fork(Stream.run(Stream.concat(Stream.make(Buffer.from("\n")), Stream.never), jobs.input(id)))
          const other = yield* jobs.start(Records.job(half))
          yield* jobs.wait(other)
          yield* endWritten(`${directory}/${other}`, half)
          assert.strictEqual((yield* jobs.info(id)).output.evictedBytes, 0)
          assert.isBelow((yield* jobs.info(id)).output.stdoutBytes, records.length)
          assert.strictEqual((yield* jobs.status(id))._tag, "Running")
          yield* Effect.forever(Effect.zipLeft(Effect.map(pull, reader.take), Effect.sleep("1 millis"))).pipe(
            Effect.catchAll((error) => Effect.succeed(error)),
            Effect.map((error) => assert.isTrue(Option.isNone(error)))
          )
        }))
        reader.complete()
      })
  )

  test(
    "a reader that stands still lets the job go on when it leaves, and keeps neither stop nor wait",
    cap,
    (jobs) =>
      Effect.gen(function*() {
        const [one, two] = yield* Effect.all([
          jobs.start(Records.job(half)),
          jobs.start(JobSpec.make({ command: "yes" }))
        ])
        const scope = yield* Scope.make()
        yield* Effect.forEach([one, two], (id) => Scope.extend(jobs.pull(id, { whenBehind: "block" }), scope))
        const waiting = yield* Effect.fork(jobs.wait(one))
        const stuck = Effect.map(jobs.info(one), (info) => info.output.stdoutBytes)
        const before = yield* Effect.zipRight(Effect.sleep("100 millis"), stuck)
        assert.isBelow(before, records.length)
        yield* takes("5 seconds", jobs.stop(two))
        yield* Scope.close(scope, Exit.void)
        yield* takes("5 seconds", Fiber.join(waiting))
        assert.strictEqual(yield* stuck, records.length)
      })
  )
})

describe("whatever is written and read, and when", () => {
  const { constantFrom, integer, oneof, record, tuple } = FastCheck

  const write = record({
    at: integer({ min: 0, max: 15 }),
    source: constantFrom<OutputSource>("stdout", "stderr"),
    length: oneof(integer({ min: 1, max: 60 }), integer({ min: 1, max: 60 }), integer({ min: 1, max: 9000 }))
  })

  const options = record({
    source: constantFrom("all", "stdout", "stderr"),
    from: oneof(
      constantFrom("start", "end"),
      integer({ min: 0, max: 1000 }),
      record({ tail: integer({ min: 0, max: 1000 }) })
    ),
    follow: constantFrom(true, true, false),
    whenBehind: constantFrom("fail", "skip", "block"),
    at: integer({ min: 0, max: 20 })
  })

  const cases = FastCheck.sample(
    tuple(
      FastCheck.array(write, { minLength: 1, maxLength: 150 }),
      FastCheck.array(options, { minLength: 8, maxLength: 8 }),
      record({ window: integer({ min: 0, max: 20_000 }), segmentBytes: integer({ min: 0, max: 20_000 }) }),
      constantFrom(1_000_000, 30_000)
    ),
    { numRuns: size(300, 40), seed: 20_250_102 }
  )

  const byteAt = (offset: number) => (offset * 131 + (offset >> 8)) & 0xff

  it.live(
    "readers get the bytes of their sources, in order, exactly, or are told which are gone",
    () =>
      Effect.forEach(
        cases,
        ([writes, readers, { segmentBytes, window }, maxBytesPerJob], round) =>
          Effect.scoped(Effect.gen(function*() {
            const sources: Array<OutputSource> = []
            const output = writes.sort((a, b) => a.at - b.at).map(({ at, length, source }) => {
              const data = Uint8Array.from({ length }, (_, i) => byteAt(sources.length + i))
              for (let i = 0; i < length; i++) sources.push(source)
              return { at, source, data }
            })
            const count = (source: string, from: number, to: number) => {
              let count = 0
              for (let i = from; i < to; i++) if (source === "all" || sources[i] === source) count++
              return count
            }
            const directory = yield* makeDirectory
            const { close, jobs } = yield* open({
              directory,
              window: { maxBytesPerJob: window },
              segmentBytes,
              maxBytesPerJob,
              scripts: { p: { output, end: { code: 0 } } }
            })
            const id = yield* jobs.start(JobSpec.make({ command: "p" }))

            const readAs = ({ at, follow, from, source, whenBehind }: typeof readers[number], late: boolean) =>
              Effect.gen(function*() {
                if (!late) yield* Effect.sleep(at)
                const scale = (n: number) => Math.round(n * sources.length / 1000)
                const place = typeof from === "number"
                  ? scale(from)
                  : typeof from === "object"
                  ? { tail: scale(from.tail) }
                  : from as "start" | "end"
                const begin = place === "start" ? 0 : typeof place === "number" ? place : undefined
                let position = begin
                let bytes = 0
                let gaps = 0
                const end = yield* Effect.either(Stream.runForEach(
                  jobs.output(id, {
                    source: source as "all" | OutputSource,
                    from: place,
                    follow,
                    whenBehind: whenBehind as "fail" | "skip" | "block"
                  }),
                  (chunk) =>
                    Effect.sync(() => {
                      position ??= chunk.offset
                      assert.isAtLeast(chunk.offset, position)
                      gaps += count(source, position, chunk.offset)
                      chunk.bytes.forEach((byte, i) => {
                        if (byte !== byteAt(chunk.offset + i)) assert.fail(`byte ${chunk.offset + i} is wrong`)
                        if (sources[chunk.offset + i] !== chunk.source) assert.fail("of the other source")
                      })
                      if (source !== "all") assert.strictEqual(chunk.source, source)
                      bytes += chunk.bytes.length
                      position = chunk.offset + chunk.bytes.length
                    })
                ))
                const complete = maxBytesPerJob > sources.length * 5
                if (whenBehind !== "skip") assert.strictEqual(gaps, 0)
                if (complete) assert.deepStrictEqual([end._tag, gaps], ["Right", 0])
                if (end._tag === "Left") {
                  assert.strictEqual(end.left._tag, "OutputEvicted")
                  const { from, to } = end.left as OutputEvicted
                  assert.strictEqual(count(source, position ?? from, from), 0)
                  assert.isAbove(count(source, from, to), 0)
                } else if (position !== undefined && (follow || late)) {
                  assert.strictEqual(count(source, position, sources.length), 0, "the end is missing")
                }
                if (late && complete && typeof place === "object") {
                  assert.strictEqual(bytes, Math.min(place.tail, count(source, 0, sources.length)))
                }
              }).pipe(Effect.tapErrorCause(() => Effect.logError(`round ${round}`)))

            const early = yield* Effect.fork(
              Effect.forEach(readers, (reader) => readAs(reader, false), { concurrency: "unbounded", discard: true })
            )
            yield* jobs.wait(id)
            yield* Effect.forEach(readers, (reader) => readAs(reader, true), {
              concurrency: "unbounded",
              discard: true
            })
            yield* Fiber.join(early)
            yield* close
          })),
        { discard: true }
      ),
    300_000
  )
})
