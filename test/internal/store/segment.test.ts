/**
 * A segment on a real disk, against the bytes that were written to it.
 */
import { FileSystem } from "@effect/platform"
import { NodeContext } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import { identity } from "effect/Function"
import * as Fs from "node:fs"
import { Directory, type Folder } from "../../../src/internal/store/folder.ts"
import { OpenFiles } from "../../../src/internal/store/openFiles.ts"
import { Segment } from "../../../src/internal/store/segment.ts"
import type { OutputChunk, OutputSelection, OutputSource } from "../../../src/Output.ts"
import * as OrderFiles from "../../fixtures/orderFiles.ts"
import { numbers, size } from "../../fixtures/sizes.ts"

const selections: ReadonlyArray<OutputSelection> = ["all", "stdout", "stderr"]

/** What a segment was given, byte by byte. */
class Written {
  readonly base: number
  readonly bytes: Array<number> = []
  readonly sources: Array<OutputSource> = []

  constructor(base: number) {
    this.base = base
  }

  get end() {
    return this.base + this.bytes.length
  }

  /** The next bytes of a source, as a chunk. */
  add(source: OutputSource, length: number): OutputChunk {
    const offset = this.end
    const bytes = Uint8Array.from({ length }, (_, i) => (offset + i) * 131 + ((offset + i) >> 8))
    this.bytes.push(...bytes)
    for (let i = 0; i < length; i++) this.sources.push(source)
    return { source, offset, bytes, at: DateTime.unsafeMake(0) }
  }

  has(selection: OutputSelection, offset: number) {
    return selection === "all" || this.sources[offset - this.base] === selection
  }

  count(selection: OutputSelection, from: number, to: number) {
    let count = 0
    for (let i = Math.max(this.base, from); i < Math.min(this.end, to); i++) if (this.has(selection, i)) count++
    return count
  }

  /** Checks that chunks begin with the first byte of a selection from an offset on, and leave out none. */
  check(chunks: ReadonlyArray<OutputChunk>, selection: OutputSelection, from: number, to: number, maxBytes: number) {
    let position = from
    let size = 0
    for (const { bytes, offset, source } of chunks) {
      assert.isAbove(bytes.length, 0)
      assert.strictEqual(this.count(selection, position, offset), 0, "a gap")
      for (let i = 0; i < bytes.length; i++) {
        if (bytes[i] !== this.bytes[offset + i - this.base] || source !== this.sources[offset + i - this.base]) {
          assert.fail(`byte ${offset + i} is wrong`)
        }
      }
      position = offset + bytes.length
      size += bytes.length
    }
    assert.isAtMost(position, Math.max(from, to))
    assert.isAtMost(size, maxBytes)
    if (chunks.length === 0) assert.strictEqual(this.count(selection, from, to), 0, "nothing, where there is something")
  }
}

const withFolder = <A, E>(
  body: (folder: Folder) => Effect.Effect<A, E>,
  change: (fs: FileSystem.FileSystem) => FileSystem.FileSystem = identity
) =>
  Effect.scoped(Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const directory = new Directory(
      change(fs),
      yield* OpenFiles.make(),
      yield* fs.makeTempDirectoryScoped({ prefix: "joblib-" })
    )
    return yield* body(yield* directory.makeFolder("job"))
  })).pipe(Effect.provide(NodeContext.layer))

const { constantFrom, integer, oneof, tuple } = FastCheck

const source = constantFrom<OutputSource>("stdout", "stderr")

const batches = FastCheck.array(
  oneof(
    { weight: 4, arbitrary: FastCheck.array(tuple(source, integer({ min: 1, max: 50 })), { minLength: 1 }) },
    // By turns, so that there are several checkpoints.
    {
      weight: 2,
      arbitrary: integer({ min: 1, max: 5000 }).map((count) =>
        numbers(count).map((i) => [i % 2 === 0 ? "stdout" : "stderr", 1 + (i % 3)] as const)
      )
    },
    // A source that is silent for long.
    { weight: 1, arbitrary: tuple(source, integer({ min: 1, max: 20_000 })).map((write) => [write]) }
  ),
  { minLength: 1, maxLength: 8 }
)

const ratios = FastCheck.array(tuple(integer({ min: 0, max: 1000 }), integer({ min: 0, max: 1000 })), {
  minLength: 4,
  maxLength: 4
})

const inputs = FastCheck.sample(tuple(batches, ratios, integer({ min: 0, max: 1_000_000 })), {
  numRuns: size(100, 12),
  seed: 20_250_101
})

const countReads = (file: FileSystem.File, add: (bytes: number) => void): FileSystem.File =>
  new Proxy(file, {
    get: (file, key) => {
      if (key === "read") {
        return (buffer: Uint8Array) => Effect.tap(file.read(buffer), (n) => Effect.sync(() => add(Number(n))))
      }
      const member: unknown = Reflect.get(file, key)
      return typeof member === "function" ? member.bind(file) : member
    }
  })

/** Everything that can be asked of a segment, at these places. */
const checkReads = (
  segment: Segment,
  written: Written,
  ratios: ReadonlyArray<readonly [number, number]>
) =>
  Effect.gen(function*() {
    const { base, end } = written
    assert.deepStrictEqual([segment.base, segment.end], [base, end])
    for (const [i, [a, b]] of [[0, 1000] as const, ...ratios].entries()) {
      const from = base + Math.round((end - base) * a / 1000)
      const to = from + Math.round((end - from) * b / 1000)
      for (const selection of selections) {
        const maxBytes = [1024 * 1024, 100, 1][i % 3] ?? 1
        const chunks = yield* segment.read(selection, from, to, maxBytes)
        written.check(chunks, selection, from, to, maxBytes)
        if (selection === "all") continue
        const count = yield* segment.countBefore(selection, from)
        assert.strictEqual(count, written.count(selection, base, from))
        if (count < written.count(selection, base, end)) {
          const offset = yield* segment.offsetOf(selection, count)
          assert.strictEqual(written.count(selection, base, offset), count)
          assert.isTrue(written.has(selection, offset))
        }
      }
    }
  })

/** The log, put together from its files. */
const restore = (directory: string, suffix = "") => {
  const read = (name: string) => {
    const path = `${directory}/${name}`
    return Fs.existsSync(path) ? Fs.readFileSync(path) : Buffer.alloc(0)
  }
  const files = { stdout: read(`stdout${suffix}.log`), stderr: read(`stderr${suffix}.log`) }
  return OrderFiles.merge(read(`order${suffix}.bin`), files)
}

describe("Segment", () => {
  it.effect(
    "reads back what was written, from anywhere, of either source, before and after it is sealed",
    () =>
      Effect.forEach(inputs, ([batches, ratios, base]) =>
        withFolder((folder) =>
          Effect.gen(function*() {
            const written = new Written(base)
            const segment = new Segment(folder, base)
            for (const batch of batches) {
              yield* segment.append(batch.map(([source, length]) => written.add(source, length)))
            }
            yield* checkReads(segment, written, ratios)
            for (const source of ["stdout", "stderr"] as const) {
              const last = written.sources.lastIndexOf(source)
              assert.strictEqual(segment.endOf[source], last < 0 ? 0 : base + last + 1)
            }
            assert.deepStrictEqual(restore(folder.path), Buffer.from(written.bytes))
            assert.strictEqual(
              segment.size,
              Fs.readdirSync(folder.path).reduce((size, name) => size + Fs.statSync(`${folder.path}/${name}`).size, 0)
            )
            yield* segment.seal(7)
            yield* checkReads(segment, written, ratios)
            assert.deepStrictEqual(restore(folder.path, ".000007"), Buffer.from(written.bytes))
            yield* segment.remove
            assert.deepStrictEqual(Fs.readdirSync(folder.path), [])
          })
        ), { discard: true }),
    240_000
  )

  it.effect("readers that come while it is sealed and the next begins get its bytes", () =>
    withFolder((folder) =>
      Effect.gen(function*() {
        for (let number = 1; number <= 20; number++) {
          const written = new Written(0)
          const segment = new Segment(folder, 0)
          yield* segment.append([written.add("stdout", 100), written.add("stderr", 100)])
          const next = new Segment(folder, written.end)
          const others = new Written(written.end + 1)
          const change = Effect.zipRight(
            segment.seal(number),
            next.append([others.add("stderr", 50), others.add("stdout", 50)])
          )
          const reads = numbers(20).map((i) =>
            Effect.map(
              Effect.zipRight(i % 2 === 0 ? Effect.void : Effect.yieldNow(), segment.read("all", i, 200, 1000)),
              (chunks) => written.check(chunks, "all", i, 200, 1000)
            )
          )
          yield* Effect.all([...reads.slice(0, 10), change, ...reads.slice(10)], { concurrency: "unbounded" })
          yield* next.remove
        }
      })
    ))

  it.effect("a source that is rare is found without reading what the other wrote", () => {
    let bytesRead = 0
    const counting = (fs: FileSystem.FileSystem): FileSystem.FileSystem => ({
      ...fs,
      open: (path, options) => Effect.map(fs.open(path, options), (file) => countReads(file, (n) => bytesRead += n))
    })
    return withFolder((folder) =>
      Effect.gen(function*() {
        const written = new Written(0)
        const segment = new Segment(folder, 0)
        yield* segment.append(numbers(20_000).map((n) => written.add(n % 2 === 0 ? "stdout" : "stderr", 1)))
        for (let i = 0; i < 10; i++) yield* segment.append([written.add("stdout", 50_000)])
        yield* segment.append([written.add("stderr", 3)])
        const chunks = yield* segment.read("stderr", 20_000, written.end, 1024 * 1024)
        written.check(chunks, "stderr", 20_000, written.end, 1024 * 1024)
        assert.strictEqual(chunks[0]?.bytes.length, 3)
        assert.isAtMost(bytesRead, 4096 * 8 + 3)
      }), counting)
  })

  for (const name of ["stdout.log", "order.bin"]) {
    it.effect(`a file that is there already stays as it is: ${name}`, () =>
      withFolder((folder) =>
        Effect.gen(function*() {
          Fs.writeFileSync(`${folder.path}/${name}`, "of somebody else")
          const segment = new Segment(folder, 0)
          const error = yield* Effect.flip(segment.append([new Written(0).add("stdout", 10)]))
          assert.include(error, { _tag: "SystemError", reason: "AlreadyExists" })
          assert.strictEqual(Fs.readFileSync(`${folder.path}/${name}`, "utf8"), "of somebody else")
          assert.strictEqual(segment.end, 0)
          yield* segment.remove
          assert.deepStrictEqual(Fs.readdirSync(folder.path), [name])
        })
      ))
  }

  it.effect("what somebody else appends is written over, and never read as the job's", () =>
    withFolder((folder) =>
      Effect.gen(function*() {
        const written = new Written(0)
        const segment = new Segment(folder, 0)
        yield* segment.append([written.add("stdout", 10)])
        Fs.appendFileSync(`${folder.path}/stdout.log`, "xyz")
        yield* segment.append([written.add("stdout", 10)])
        written.check(yield* segment.read("all", 0, 20, 100), "all", 0, 20, 100)
        assert.deepStrictEqual(restore(folder.path), Buffer.from(written.bytes))
      })
    ))

  const damages: ReadonlyArray<readonly [string, (path: string) => void]> = [
    ["cut short", (path) => Fs.truncateSync(path, 3)],
    ["deleted", (path) => Fs.rmSync(path)],
    ["replaced by a folder", (path) => {
      Fs.rmSync(path)
      Fs.mkdirSync(path)
    }],
    ["replaced by a longer one", (path) => {
      Fs.rmSync(path)
      Fs.writeFileSync(path, "of somebody else, and longer than what was there")
    }]
  ]
  for (const name of ["stdout.log", "order.bin"]) {
    for (const [damage, inflict] of damages) {
      it.effect(`a file that was ${damage} fails both reads and writes, and gives no wrong bytes: ${name}`, () =>
        withFolder((folder) =>
          Effect.gen(function*() {
            const written = new Written(0)
            const segment = new Segment(folder, 0)
            yield* segment.append([written.add("stdout", 10), written.add("stderr", 10)])
            inflict(`${folder.path}/${name}`)
            const read = yield* Effect.flip(segment.read("all", 0, 20, 100))
            assert.strictEqual(read._tag, "SystemError")
            const write = yield* Effect.flip(segment.append([written.add("stdout", 10)]))
            assert.strictEqual(write._tag, "SystemError")
            assert.strictEqual(segment.end, 20)
          })
        ))
    }
  }

  it.effect("after a seal that failed half-way everything can still be read", () =>
    withFolder((folder) =>
      Effect.gen(function*() {
        const written = new Written(0)
        const segment = new Segment(folder, 0)
        yield* segment.append([written.add("stdout", 10), written.add("stderr", 10)])
        Fs.mkdirSync(`${folder.path}/stderr.000001.log`)
        yield* Effect.flip(segment.seal(1))
        assert.deepStrictEqual(Fs.readdirSync(folder.path).sort(), [
          "order.000001.bin",
          "stderr.000001.log",
          "stderr.log",
          "stdout.000001.log"
        ])
        written.check(yield* segment.read("all", 0, 20, 100), "all", 0, 20, 100)
      })
    ))

  it.effect("its files are its owner's alone", () =>
    withFolder((folder) =>
      Effect.gen(function*() {
        const written = new Written(0)
        yield* new Segment(folder, 0).append([written.add("stdout", 10), written.add("stderr", 10)])
        for (const name of ["stdout.log", "stderr.log", "order.bin"]) {
          assert.strictEqual(Fs.statSync(`${folder.path}/${name}`).mode & 0o777, 0o600)
        }
      })
    ))
})
