/**
 * The store of all jobs: what it costs, whose directories it takes, and file systems that do nothing.
 */
import { FileSystem } from "@effect/platform"
import { NodeContext } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Fs from "node:fs"
import { FileSystemStore, type Settings } from "../../../src/internal/store/fileSystemStore.ts"
import { Ledger } from "../../../src/internal/store/ledger.ts"
import * as JobId from "../../../src/JobId.ts"
import type { OutputSource } from "../../../src/Output.ts"
import { hooked } from "../../fixtures/fileSystems.ts"
import * as OrderFiles from "../../fixtures/orderFiles.ts"
import { numbers } from "../../fixtures/sizes.ts"

const isRoot = process.getuid?.() === 0

const withStore = <A, E>(
  settings: Partial<Settings>,
  body: (store: FileSystemStore, directory: string) => Effect.Effect<A, E>,
  fileSystem: Layer.Layer<FileSystem.FileSystem> = NodeContext.layer
) =>
  Effect.scoped(Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const directory = `${yield* fs.makeTempDirectoryScoped({ prefix: "joblib-" })}/store`
    const store = yield* FileSystemStore.make(fs, {
      directory,
      maxBytes: 1_000_000,
      segmentBytes: 1_000_000,
      onFull: "evict",
      ...settings
    })
    return yield* body(store, directory)
  })).pipe(Effect.provide(fileSystem))

const chunk = (offset: number, length: number, source: OutputSource = "stdout") => ({
  source,
  offset,
  bytes: new Uint8Array(length),
  at: DateTime.unsafeMake(0)
})

const open = (store: FileSystemStore, pinned = () => Infinity) => {
  const id = JobId.make()
  return Effect.map(store.open(id, Infinity, pinned), (stored) => ({ id, ...stored }))
}

describe("Ledger", () => {
  it("knows the oldest in one step, and forgets what has left", () => {
    const ledger = new Ledger<number>()
    const segments = numbers(10_000).map(() => ({}))
    segments.forEach((segment, i) => ledger.add(segment, i, 1))
    let asked = 0
    for (let i = 0; i < 5000; i++) {
      const owner = ledger.oldest(() => {
        asked++
        return true
      })
      assert.strictEqual(owner, i)
      ledger.delete(segments[i] ?? {})
    }
    assert.strictEqual(asked, 5000)
    assert.strictEqual(ledger.size, 5000)
    ledger.delete(segments[7000] ?? {})
    ledger.delete(segments[9999] ?? {})
    ledger.add(segments[0] ?? {}, 0, 3)
    assert.strictEqual(ledger.oldest((owner) => owner === 0 || owner > 9997), 9998)
    segments.forEach((segment) => ledger.delete(segment))
    assert.strictEqual(ledger.size, 0)
    assert.strictEqual(ledger.oldest(() => true), undefined)
  })
})

describe("FileSystemStore", () => {
  it.effect("what a job costs does not grow with the number of jobs", () =>
    withStore({ maxBytes: 60_000 }, (store) =>
      Effect.gen(function*() {
        let looks = 0
        const pinned = () => {
          looks++
          return Infinity
        }
        yield* Effect.forEach(numbers(500), () =>
          Effect.flatMap(open(store, pinned), (job) => job.append([chunk(0, 100)])), { concurrency: 8 })
        const job = yield* open(store)
        const before = looks
        for (let i = 0; i < 20; i++) {
          yield* job.append([chunk(i * 100, 100)])
        }
        // Twenty small appends evict some twenty jobs, and look at those alone.
        assert.isAtMost(looks - before, 100)
      })))

  it.effect("what is removed or evicted counts no more, and is not held", () =>
    withStore({ maxBytes: 10_000, segmentBytes: 1000 }, (store, directory) =>
      Effect.gen(function*() {
        const jobs = yield* Effect.forEach(numbers(50), () => open(store))
        for (let i = 0; i < 20; i++) yield* Effect.forEach(jobs, (job) => job.append([chunk(i * 1000, 1000)]))
        yield* Effect.forEach(jobs, (job) => job.remove)
        assert.deepStrictEqual(Fs.readdirSync(directory), [])
        const ledger = (store as unknown as { readonly ledger: { size: number; entries: Map<object, unknown> } }).ledger
        assert.deepStrictEqual([ledger.size, ledger.entries.size], [0, 0])
      })))

  it.effect("whoever reads a source where it is silent, and is left behind there, misses nothing that comes after", () =>
    Effect.gen(function*() {
      const [reading, evicted] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const held = hooked({
        open: (path, go) =>
          path.endsWith("order.000001.bin")
            ? Deferred.succeed(reading, undefined).pipe(Effect.zipRight(Deferred.await(evicted)), Effect.zipRight(go))
            : go
      })
      const read = (store: FileSystemStore) =>
        Effect.gen(function*() {
          const job = yield* open(store)
          // In the first segment there is nothing of stdout after its first bytes; in the second there is.
          yield* job.append([chunk(0, 10), chunk(10, 1000, "stderr")])
          yield* job.append([chunk(1010, 10), chunk(1020, 1000, "stderr")])
          const reader = yield* Effect.fork(job.read("stdout", 10, 2000))
          yield* Deferred.await(reading)
          yield* job.append([chunk(2020, 1000, "stderr")])
          yield* job.append([chunk(3020, 1000, "stderr")])
          assert.strictEqual(job.start("all"), 1010)
          yield* Deferred.succeed(evicted, undefined)
          return yield* Fiber.join(reader)
        })
      const chunks = yield* withStore({ maxBytes: 4000, segmentBytes: 1000 }, read, held)
      assert.deepStrictEqual(chunks.map(({ offset, bytes }) => [offset, bytes.length]), [[1010, 10]])
    }))

  it.effect("a file system that does nothing fails with a typed error, in the same turn", () =>
    Effect.scoped(Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const store = yield* FileSystemStore.make(fs, {
        directory: "/x",
        maxBytes: 1,
        segmentBytes: 1,
        onFull: "evict"
      })
      const exit = Effect.runSyncExit(Effect.flip(store.open(JobId.make(), 1, () => 0)))
      assert.strictEqual(exit._tag, "Success")
      const error = yield* Effect.flip(store.open(JobId.make(), 1, () => 0))
      assert.deepInclude(error, { _tag: "OutputStoreError", operation: "open" })
    })).pipe(Effect.provide(FileSystem.layerNoop({}))))

  it.effect("a directory that others may write is refused, by its name", () =>
    withStore({}, (store, directory) =>
      Effect.gen(function*() {
        for (const mode of [0o770, 0o707, 0o777]) {
          Fs.mkdirSync(directory, { recursive: true })
          Fs.chmodSync(directory, mode)
          const error = yield* Effect.flip(open(store))
          assert.strictEqual(error.operation, "open")
          assert.include(error.message, directory)
          assert.include(error.message, "others may write it")
          assert.deepStrictEqual(Fs.readdirSync(directory), [])
        }
        // In a directory like /tmp nobody can rename or remove what is another's.
        Fs.chmodSync(directory, 0o1777)
        yield* open(store)
      })))

  if (isRoot) {
    it.effect("so is one that belongs to somebody else", () =>
      withStore({}, (store, directory) =>
        Effect.gen(function*() {
          Fs.mkdirSync(directory)
          Fs.chownSync(directory, 65_534, 65_534)
          const error = yield* Effect.flip(open(store))
          assert.include(error.message, directory)
          assert.include(error.message, "belongs to user 65534")
          assert.deepStrictEqual(Fs.readdirSync(directory), [])
          Fs.chownSync(directory, 0, 0)
          yield* open(store)
          Fs.chownSync(directory, 65_534, 65_534)
          yield* Effect.flip(open(store))
        })))
  }

  it.effect("a job's folder that is swapped for a link: nothing in the other folder is renamed, written or removed", () =>
    withStore({ maxBytes: 2500, segmentBytes: 500 }, (store, directory) =>
      Effect.gen(function*() {
        const job = yield* open(store)
        // Two segments, so that there is something to evict.
        for (let i = 0; i < 2; i++) yield* job.append([chunk(i * 600, 600)])
        const victim = `${directory}/victim`
        Fs.mkdirSync(victim)
        const names = ["order.bin", "stdout.log", "stderr.log", "stdout.000001.log", "stdout.000002.log"]
        for (const name of names) Fs.writeFileSync(`${victim}/${name}`, name.padEnd(2000))
        Fs.renameSync(`${directory}/${job.id}`, `${directory}/mine`)
        Fs.symlinkSync(victim, `${directory}/${job.id}`)
        // Begins a segment, and then appends to the one there is.
        const error = yield* Effect.flip(job.append([chunk(1200, 600)]))
        assert.include(error.message, `${directory}/${job.id}`)
        const other = yield* open(store)
        for (let i = 0; i < 8; i++) yield* other.append([chunk(i * 600, 600)])
        yield* Effect.flip(job.remove)
        assert.deepStrictEqual(Fs.readdirSync(victim).sort(), [...names].sort())
        for (const name of names) assert.strictEqual(Fs.readFileSync(`${victim}/${name}`, "utf8"), name.padEnd(2000))
      })))

  it.effect("records say when their bytes came, within 10 ms, over gaps and clocks that jump", () =>
    withStore({}, (store, directory) =>
      Effect.gen(function*() {
        const start = 1_700_000_000_000
        const day = 86_400_000
        // 5 ms apart, 20 ms later, an hour back, and 100 days later.
        const times = [0, 5, 9, 10, 30, 30 - 3_600_000, 100 * day, 100 * day + 1].map((after) => start + after)
        const job = yield* open(store)
        yield* job.append(times.map((at, i) => ({ ...chunk(i * 10, 10), at: DateTime.unsafeMake(at) })))
        const read: Array<readonly [number, number]> = []
        for (let from = 0; from < 80;) {
          const chunks = yield* job.read("all", from, 80)
          for (const { at, bytes, offset } of chunks) {
            if (at !== undefined) read.push([offset, at.epochMillis - start])
            from = offset + bytes.length
          }
        }
        assert.deepStrictEqual(read, [
          [0, 0],
          [30, 10],
          [40, 30],
          [50, 30 - 3_600_000],
          [60, 100 * day]
        ])
        const folder = `${directory}/${job.id}`
        const records = ["order.000001.bin", "order.bin"].flatMap((name) =>
          OrderFiles.recordsOf(Fs.readFileSync(`${folder}/${name}`))
        )
        assert.deepStrictEqual(records.map(({ at, length }) => [length, at - start]), [
          [30, 0],
          [10, 10],
          [10, 30],
          [10, 30 - 3_600_000],
          [20, 100 * day]
        ])
      })))
})
