/**
 * The log against a model that knows of every byte whose it is, and of the log only where it begins.
 */
import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as FastCheck from "effect/FastCheck"
import { OutputBudget } from "../../../src/internal/output/outputBudget.ts"
import { OutputLog, type Pin } from "../../../src/internal/output/outputLog.ts"
import { maxBatchBytes } from "../../../src/internal/output/view.ts"
import type { OutputChunk, OutputSelection, OutputSource } from "../../../src/Output.ts"

const selections: ReadonlyArray<OutputSelection> = ["all", "stdout", "stderr"]

/** The byte at an offset, whatever its source. */
const byteAt = (offset: number) => (offset * 131 + (offset >> 8) * 7) & 0xff

const bytesAt = (offset: number, length: number) => Uint8Array.from({ length }, (_, i) => byteAt(offset + i))

class Model {
  /** Whose the byte at each offset is. */
  readonly sources: Array<OutputSource> = []
  readonly log: OutputLog
  readonly pins: Array<Pin> = []
  /** Up to here, bytes were evicted when it was looked last. */
  start = 0
  private readonly seen: Array<OutputChunk> = []

  constructor(maxBytes: number, budget: OutputBudget) {
    this.log = new OutputLog(maxBytes, budget)
    budget.open(this.log)
  }

  get head() {
    return this.sources.length
  }

  append(source: OutputSource, length: number) {
    const { head, log } = this
    const bytes = bytesAt(head, length)
    for (let i = 0; i < length; i++) this.sources.push(source)
    const hasRoom = log.append(source, bytes)
    if (length > 0) assert.strictEqual(hasRoom, !log.isFull)
    // Small writes are the listener's no more, but the log has copied them.
    if (length < 4096) bytes.fill(0)
  }

  count(selection: OutputSelection, from: number, to = this.head) {
    if (selection === "all") return Math.max(0, to - from)
    let count = 0
    for (let i = Math.max(0, from); i < to; i++) if (this.sources[i] === selection) count++
    return count
  }

  /** Where the last `count` bytes of a selection begin, as far as they are kept. */
  tail(selection: OutputSelection, count: number) {
    let missing = count
    for (let i = this.head - 1; i >= this.start && missing > 0; i--) {
      if (selection !== "all" && this.sources[i] !== selection) continue
      if (--missing === 0) return i
    }
    return missing <= 0 ? this.head : this.startOf(selection)
  }

  /** After the last byte of a selection that is gone. */
  startOf(selection: OutputSelection) {
    let start = this.start
    while (selection !== "all" && start > 0 && this.sources[start - 1] !== selection) start--
    return start
  }

  /** Reads, and checks every byte of what comes and that nothing is missing. */
  read(selection: OutputSelection, from: number, to?: number) {
    const until = Math.min(to ?? this.head, this.head)
    if (from >= until) return
    let position = from
    for (const chunk of this.log.read(selection, from, to)) {
      assert.isAbove(chunk.bytes.length, 0)
      assert.isAtLeast(chunk.offset, position)
      if (selection !== "all") assert.strictEqual(chunk.source, selection)
      assert.strictEqual(this.count(selection, position, chunk.offset), 0, "a gap")
      this.check(chunk)
      this.seen.push(chunk)
      position = chunk.offset + chunk.bytes.length
    }
    assert.isAtMost(position, until)
    assert.strictEqual(this.count(selection, Math.max(position, this.start), until), 0, "missing at the end")
    this.readInBatches(selection, from, until)
  }

  /** Batches give the same bytes, no more of them than they may, and the same chunks to the next who asks. */
  private readInBatches(selection: OutputSelection, from: number, until: number) {
    const read = (selection: OutputSelection) =>
      Array.from(this.log.read(selection, from, until)).reduce((size, { bytes }) => size + bytes.length, 0)
    let size = 0
    for (let position = from; position < until;) {
      const batch = this.log.batch(selection, position, until)
      const chunks = Array.from(batch.chunks)
      for (const chunk of chunks) this.check(chunk)
      const bytes = chunks.reduce((size, { bytes }) => size + bytes.length, 0)
      assert.isAbove(batch.to, position)
      assert.isAtMost(bytes, maxBatchBytes)
      if (chunks.length === 0) assert.strictEqual(batch.to, until)
      else assert.strictEqual(this.log.batch(selection, position, until), batch)
      size += bytes
      position = batch.to
    }
    assert.strictEqual(size, read(selection))
  }

  /** Who has a chunk may keep it: it never changes. */
  checkSeen() {
    this.seen.forEach((chunk) => this.check(chunk))
  }

  /** What must hold at every moment. */
  checkInvariants(maxBytes: number) {
    const { head, log } = this
    const pinned = Math.min(...this.pins.map((pin) => pin.position), log.stored)
    const start = log.start("all")
    assert.isAtLeast(start, this.start)
    if (start > this.start) assert.isAtMost(start, pinned, "evicted what was pinned")
    this.start = start
    assert.strictEqual(log.head, head)
    assert.strictEqual(log.evictedBytes, start)
    if (head > 0) assert.isAbove(log.size(), 0, "what was read last is kept")
    assert.deepStrictEqual({ ...log.written }, {
      stdout: this.count("stdout", 0),
      stderr: this.count("stderr", 0)
    })
    for (const selection of selections) {
      assert.strictEqual(log.size(selection), this.count(selection, start))
      assert.strictEqual(log.start(selection), this.startOf(selection))
    }
    const first = Array.from(log.read("all", start))[0]
    const isBlocked = first !== undefined && first.offset + first.bytes.length > pinned
    if (log.size() > maxBytes && !isBlocked) assert.strictEqual(first?.bytes.length, log.size(), "above its bound")
    if (log.cost > maxBytes * 1.25 + 256 * 1024 && !isBlocked) assert.isFalse(log.evictOldest(), "costs too much")
    if (log.isFull) assert.isTrue(isBlocked)
    if (log.size() > maxBytes && isBlocked) assert.strictEqual(log.isFull, log.head >= log.boundedFrom)
  }

  private check({ bytes, offset, source }: OutputChunk) {
    for (let i = 0; i < bytes.length; i++) {
      if (bytes[i] !== byteAt(offset + i) || this.sources[offset + i] !== source) {
        assert.fail(`byte ${offset + i} of ${source} is wrong`)
      }
    }
  }
}

type Step = (model: Model) => void

const { constantFrom, integer, oneof, tuple } = FastCheck

const ratio = integer({ min: 0, max: 1000 }).map((n) => n / 1000)

const source = constantFrom<OutputSource>("stdout", "stderr")

const length = oneof(
  { weight: 6, arbitrary: integer({ min: 0, max: 200 }) },
  { weight: 2, arbitrary: integer({ min: 3900, max: 4300 }) },
  { weight: 1, arbitrary: integer({ min: 0, max: 20_000 }) }
)

const appends = tuple(source, length).map(([source, length]): Step => (model) => model.append(source, length))

const reads = tuple(constantFrom(...selections), ratio, ratio, FastCheck.boolean()).map(
  ([selection, a, b, toHead]): Step => (model) => {
    const from = model.start + Math.round(a * (model.head - model.start))
    model.read(selection, from, toHead ? undefined : from + Math.round(b * 1.2 * (model.head - from)))
  }
)

const tails = tuple(constantFrom(...selections), ratio).map(([selection, a]): Step => (model) => {
  const count = Math.round(a * 1.2 * (model.head - model.start))
  assert.strictEqual(model.log.tail(selection, count), model.tail(selection, count))
})

const pins = tuple(ratio, integer({ min: 0, max: 5 })).map(([a, which]): Step => (model) => {
  const { log, pins } = model
  const pin = pins[which]
  if (pin === undefined) {
    const pin = { position: Math.round(a * model.head * 1.1) }
    pins.push(pin)
    log.pins.add(pin)
  } else if (a < 0.3) {
    pins.splice(which, 1)
    log.pins.delete(pin)
  } else {
    pin.position += Math.round(a * Math.max(0, model.head - pin.position))
  }
  log.makeRoom()
})

const storing = ratio.map((a): Step => ({ head, log }) => {
  log.stored = log.stored === Infinity ? 0 : a > 0.9 ? Infinity : log.stored + Math.round(a * (head - log.stored))
  log.makeRoom()
})

const drains: FastCheck.Arbitrary<Step> = ratio.map((a) => ({ log }) => {
  log.boundedFrom = a > 0.5 ? Infinity : 0
})

const steps = FastCheck.array(
  oneof(
    { weight: 12, arbitrary: appends },
    { weight: 5, arbitrary: reads },
    { weight: 2, arbitrary: tails },
    { weight: 2, arbitrary: pins },
    { weight: 1, arbitrary: storing },
    { weight: 1, arbitrary: drains }
  ),
  { minLength: 1, maxLength: 120 }
)

const bound = oneof(constantFrom(0, 1, 100, 4096, Infinity), integer({ min: 1, max: 60_000 }))

describe("OutputLog", () => {
  it("whatever is appended, evicted, pinned and read: the right bytes, or their eviction, and never too many", () => {
    FastCheck.assert(
      FastCheck.property(bound, steps, (maxBytes, steps) => {
        const model = new Model(maxBytes, new OutputBudget(Infinity))
        for (const step of steps) {
          step(model)
          model.checkInvariants(maxBytes)
          for (const selection of selections) model.read(selection, model.start)
        }
        model.checkSeen()
      }),
      { numRuns: 150 }
    )
  })

  it("logs that share a bound evict the oldest bytes of any, but none that are pinned", () => {
    const stepsOfTwo = FastCheck.array(tuple(integer({ min: 0, max: 2 }), oneof(appends, appends, reads, pins)), {
      minLength: 1,
      maxLength: 150
    })
    FastCheck.assert(
      FastCheck.property(bound, stepsOfTwo, (maxBytes, steps) => {
        const budget = new OutputBudget(maxBytes)
        const models = [0, 1, 2].map(() => new Model(Infinity, budget))
        for (const [which, step] of steps) {
          const model = models[which] as Model
          step(model)
          for (const model of models) {
            model.checkInvariants(Infinity)
            model.read("all", model.start)
          }
          const cost = models.reduce((sum, { log }) => sum + log.cost, 0)
          assert.isAtLeast(cost, models.reduce((sum, { log }) => sum + log.size(), 0))
          assert.strictEqual(budget.isOver, cost > maxBytes)
          if (budget.isOver) models.forEach(({ log }) => assert.isFalse(log.evictOldest(), "could have gone"))
        }
      }),
      { numRuns: 100 }
    )
  })

  it("of two logs the older bytes leave first", () => {
    const budget = new OutputBudget(20_000)
    const one = new Model(Infinity, budget)
    const two = new Model(Infinity, budget)
    for (const model of [one, two, one, two]) model.append("stdout", 5000)
    two.append("stdout", 5000)
    assert.deepStrictEqual([one.log.start("all"), two.log.start("all")], [5000, 0])
    two.append("stdout", 5000)
    assert.deepStrictEqual([one.log.start("all"), two.log.start("all")], [5000, 5000])
    one.append("stdout", 5000)
    assert.deepStrictEqual([one.log.start("all"), two.log.start("all")], [10_000, 5000])
  })

  it("a log that was forgotten gives its bytes back once, whatever it evicts afterwards", () => {
    const budget = new OutputBudget(30_000)
    const gone = new Model(10_000, budget)
    const pin = { position: 0 }
    gone.log.pins.add(pin)
    for (let i = 0; i < 4; i++) gone.append("stdout", 5000)
    budget.close(gone.log)
    gone.log.pins.delete(pin)
    gone.log.makeRoom()
    assert.isAtMost(gone.log.size(), 10_000)
    const other = new Model(Infinity, budget)
    for (let i = 0; i < 10; i++) other.append("stdout", 5000)
    assert.strictEqual(other.log.size(), 30_000)
  })

  it("a million writes of one line do not make a million objects; readers at the head share a batch", () => {
    const log = new OutputLog(16 * 1024 * 1024, new OutputBudget(Infinity))
    const line = new Uint8Array(16)
    for (let i = 0; i < 1_000_000; i++) log.append("stdout", line)
    const at = Array.from(log.read("all", 0), ({ at }) => at.epochMillis)
    // As many pieces as slabs are full, and as many times as the appends took.
    assert.isAtMost(at.length, 300 + new Set(at).size)
    const end = log.batch("all", log.head - 100)
    assert.strictEqual(log.batch("all", log.head - 100), end)
    assert.strictEqual(log.evictedBytes, 0)
  })

  it("whatever the size of the writes, as much is kept as the bound allows, but for a sixteenth", () => {
    for (const length of [1, 80, 1000, 4095]) {
      const log = new OutputLog(128 * 1024, new OutputBudget(Infinity))
      for (let size = 0; size < 1_000_000; size += length) log.append("stdout", new Uint8Array(length))
      assert.isAtLeast(log.size(), 120 * 1024 - length)
      assert.isAtMost(log.size(), 128 * 1024)
    }
  })

  it("single bytes of two sources by turns cost no more than a log of their bound in memory", () => {
    const maxBytes = 1024 * 1024
    const log = new OutputLog(maxBytes, new OutputBudget(Infinity))
    for (let i = 0; i < 200_000; i++) log.append(i % 2 === 0 ? "stdout" : "stderr", Uint8Array.of(byteAt(i)))
    const start = log.start("all")
    const chunks = Array.from(log.read("all", start))
    assert.isAtMost(chunks.length, (maxBytes * 1.25 + 256 * 1024) / 256)
    assert.strictEqual(log.head, 200_000)
    assert.deepStrictEqual(Buffer.concat(chunks.map((chunk) => chunk.bytes)), Buffer.from(bytesAt(start, log.size())))
  })

  it("what single bytes cost in memory counts towards the bound over all logs", () => {
    const budget = new OutputBudget(4 * 1024 * 1024)
    const logs = Array.from({ length: 20 }, () => {
      const log = new OutputLog(16 * 1024 * 1024, budget)
      budget.open(log)
      return log
    })
    for (let i = 0; i < 400_000; i++) logs[i % 20]?.append(i % 40 < 20 ? "stdout" : "stderr", Uint8Array.of(1))
    assert.isAtMost(logs.reduce((sum, log) => sum + log.size(), 0), 4 * 1024 * 1024 / 256)
  })

  it("output in ordinary chunks, or in lines one now and then, keeps as many bytes as the bound says", () => {
    const maxBytes = 4 * 1024 * 1024
    for (const [length, pause] of [[65_536, 0], [5000, 100], [80, 0], [80, 100]] as const) {
      let now = 0
      const log = new OutputLog(maxBytes, new OutputBudget(Infinity), () => now)
      for (let size = 0; size < 2 * maxBytes; size += length) {
        log.append("stdout", new Uint8Array(length))
        now += pause
      }
      assert.isAtLeast(log.size(), maxBytes - 65_536, `${length} bytes every ${pause} ms`)
    }
  })

  it("readers that join at different places meet at the same boundaries, and share batches from there", () => {
    const log = new OutputLog(16 * 1024 * 1024, new OutputBudget(Infinity))
    for (let i = 0; i < 40; i++) log.append("stdout", new Uint8Array(50_000))
    const batches = (from: number) => {
      const found = []
      for (let position = from; position < log.head;) {
        const batch = log.batch("all", position)
        found.push(batch)
        position = batch.to
      }
      return found
    }
    const first = batches(0)
    assert.lengthOf(first, 8)
    for (const from of [0, 1, 77_777, 200_000]) {
      assert.isTrue(batches(from).slice(1).every((batch, i) => batch === first[i + 1]), `${from}`)
    }
    log.append("stdout", new Uint8Array(1))
    assert.strictEqual(log.batch("all", 0), first[0])
    assert.notStrictEqual(log.batch("all", 7 * maxBatchBytes), first[7])
  })

  it("a batch has 4,096 chunks at most", () => {
    const log = new OutputLog(16 * 1024 * 1024, new OutputBudget(Infinity))
    for (let i = 0; i < 10_000; i++) log.append(i % 2 === 0 ? "stdout" : "stderr", Uint8Array.of(1))
    const sizes = []
    for (let position = 0; position < log.head;) {
      const { chunks, to } = log.batch("all", position)
      sizes.push(chunks.length)
      position = to
    }
    assert.deepStrictEqual(sizes, [4096, 4096, 10_000 - 2 * 4096])
  })

  it("bytes are plain arrays without the rest of a large buffer: slice gives a copy", () => {
    const log = new OutputLog(1024 * 1024, new OutputBudget(Infinity))
    const buffer = Buffer.alloc(100_000, 1)
    log.append("stdout", buffer.subarray(0, 10_000))
    log.append("stdout", buffer.subarray(0, 100))
    log.append("stdout", buffer.subarray(0, 90_000))
    for (const { bytes } of log.read("all", 5)) {
      assert.strictEqual(bytes.constructor, Uint8Array)
      bytes.slice().fill(0)
    }
    const chunks = Array.from(log.read("all", 0))
    assert.isTrue(chunks.every(({ bytes }) => bytes.every((byte) => byte === 1)))
    assert.isAtMost(chunks[0]?.bytes.buffer.byteLength ?? 0, 20_000)
  })

  it("each chunk has the time of its first byte, which reads less than 10 ms apart may share", () => {
    const Reads = FastCheck.array(
      tuple(
        source,
        oneof(integer({ min: 1, max: 200 }), integer({ min: 4000, max: 5000 })),
        integer({ min: -3, max: 25 })
      ),
      { minLength: 1, maxLength: 300 }
    )
    FastCheck.assert(
      FastCheck.property(Reads, (reads) => {
        let now = 1_700_000_000_000
        const log = new OutputLog(Infinity, new OutputBudget(Infinity), () => now)
        const times: Array<{ readonly now: number; readonly source: OutputSource }> = []
        let isForward = true
        for (const [source, length, pause] of reads) {
          now += pause
          isForward &&= pause >= 0
          log.append(source, bytesAt(log.head, length))
          for (let i = 0; i < length; i++) times.push({ now, source })
        }
        for (const selection of selections) {
          for (const from of [0, Math.floor(log.head / 3)]) {
            for (let position = from; position < log.head;) {
              const { chunks, to } = log.batch(selection, position)
              for (const { at, bytes, offset, source } of chunks) {
                assert.isTrue(DateTime.isUtc(at))
                for (let i = 0; i < bytes.length; i++) {
                  const time = times[offset + i]
                  if (time?.source !== source || bytes[i] !== byteAt(offset + i)) assert.fail(`byte ${offset + i}`)
                  const late = (time?.now ?? 0) - at.epochMillis
                  if (isForward && (late < 0 || late >= 10)) assert.fail(`${late} ms late`)
                }
              }
              position = to
            }
          }
        }
      }),
      { numRuns: 100 }
    )
  })
})
