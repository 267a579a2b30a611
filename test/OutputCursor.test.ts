import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import type * as JobConfig from "../src/JobConfig.ts"
import { JobCoordinator } from "../src/JobCoordinator.ts"
import * as JobId from "../src/JobId.ts"
import * as JobSpec from "../src/JobSpec.ts"
import type { OutputSource } from "../src/Output.ts"
import * as OutputCursor from "../src/OutputCursor.ts"
import type * as SimulatedProcesses from "../src/SimulatedProcesses.ts"
import { settle, simulated } from "./utils.ts"

const simulate = (script: SimulatedProcesses.Script, partial?: JobConfig.PartialSettings) =>
  Effect.provide(simulated({ p: script }, partial))

const start = Effect.flatMap(JobCoordinator, (jobs) => jobs.start(JobSpec.make({ command: "p" })))

const encode = (text: string) => new TextEncoder().encode(text)

const decode = (bytes: Uint8Array) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes)

const Token = Schema.parseJson(OutputCursor.OutputCursor)

/** Polls to the end, and lets time go on whenever there is no more for now; between two polls the cursor is a string. */
const poll = (id: JobId.JobId, options: OutputCursor.Options, step = 10) =>
  Effect.gen(function*() {
    const texts = { stdout: "", stderr: "" }
    const pages: Array<OutputCursor.Page> = []
    let token = yield* Schema.encode(Token)(OutputCursor.make())
    while (true) {
      const page = yield* OutputCursor.read(id, yield* Schema.decode(Token)(token), options)
      for (const { source, text } of page.output) texts[source] += text
      pages.push(page)
      token = yield* Schema.encode(Token)(page.cursor)
      assert.isBelow(token.length, 100)
      if (page.hasMore) continue
      if (page.hasEnded) return { pages, texts }
      yield* TestClock.adjust(step)
      yield* settle
    }
  })

/** Bytes as writes of so many, of one source and the other by turns. */
const inWrites = (bytes: Uint8Array, lengths: ReadonlyArray<number>, pause: number) => {
  const writes: Array<{ readonly at: number; readonly source: OutputSource; readonly data: Uint8Array }> = []
  for (let start = 0; start < bytes.length;) {
    const length = lengths[writes.length % lengths.length] ?? 1
    writes.push({
      at: writes.length * pause,
      source: writes.length % 2 === 0 ? "stdout" : "stderr",
      data: bytes.slice(start, start + length)
    })
    start += length
  }
  return writes
}

const textsOf = (writes: ReadonlyArray<{ readonly source: OutputSource; readonly data: Uint8Array }>) => {
  const of = (source: OutputSource) =>
    decode(Buffer.concat(writes.filter((write) => write.source === source).map(({ data }) => data)))
  return { stdout: of("stdout"), stderr: of("stderr") }
}

describe("OutputCursor", () => {
  it.effect(
    "9 MB in steps of 30 KB while the job writes, characters cut everywhere: exactly the text",
    () =>
      Effect.gen(function*() {
        const id = yield* start
        const { pages, texts } = yield* poll(id, { maxBytes: 30_000 }, 50)
        const expected = textsOf(writes)
        assert.isTrue(texts.stdout === expected.stdout, "stdout")
        assert.isTrue(texts.stderr === expected.stderr, "stderr")
        assert.isAtLeast(pages.length, 300)
        assert.isTrue(pages.some(({ hasEnded, hasMore }) => hasMore && !hasEnded))
        for (const { output } of pages) {
          const lengths = { stdout: 0, stderr: 0 }
          output.forEach(({ source, text }, index) => {
            assert.notStrictEqual(output[index - 1]?.source, source)
            lengths[source] += text.length
          })
          assert.isAtMost(lengths.stdout + lengths.stderr, 30_006)
        }
      }).pipe(simulate({ output: writes, end: { code: 0 } })),
    240_000
  )

  const writes = inWrites(encode("aé€😀\n".repeat(9_000_000 / 11)), [3001, 1, 7, 20_002, 2, 4999], 1)

  it.effect(
    "whatever is written, and however it is cut, of either source or of both",
    () =>
      Effect.promise(() =>
        FastCheck.assert(
          FastCheck.asyncProperty(
            FastCheck.oneof(
              FastCheck.uint8Array({ minLength: 1, maxLength: 200 }),
              FastCheck.string({ unit: "binary", minLength: 1, maxLength: 60 }).map(encode)
            ),
            FastCheck.array(FastCheck.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 }),
            FastCheck.integer({ min: 1, max: 20 }),
            FastCheck.integer({ min: 1, max: 30 }),
            (bytes, lengths, maxBytes, step) => {
              const writes = inWrites(bytes, lengths, 1)
              const expected = textsOf(writes)
              return Effect.gen(function*() {
                const id = yield* start
                const { texts } = yield* poll(id, { maxBytes }, step)
                assert.deepStrictEqual(texts, expected)
                const stdout = yield* poll(id, { maxBytes, source: "stdout" })
                assert.deepStrictEqual(stdout.texts, { stdout: expected.stdout, stderr: "" })
                const stderr = yield* poll(id, { maxBytes, source: "stderr" })
                assert.deepStrictEqual(stderr.texts, { stdout: "", stderr: expected.stderr })
              }).pipe(
                simulate({ output: writes, end: { code: 0 } }),
                Effect.provide(TestContext.TestContext),
                Effect.runPromise
              )
            }
          ),
          { numRuns: 40, seed: 1 }
        )
      ),
    240_000
  )

  it.effect("says whether more is there, and whether the job has ended", () =>
    Effect.gen(function*() {
      const id = yield* start
      const state = (page: OutputCursor.Page) => [
        page.output.map(({ text }) => text).join(""),
        page.hasMore,
        page.hasEnded
      ]
      const first = yield* OutputCursor.read(id, OutputCursor.make(), { maxBytes: 3 })
      assert.deepStrictEqual(state(first), ["abc", true, false])
      const second = yield* OutputCursor.read(id, first.cursor, { maxBytes: 3 })
      assert.deepStrictEqual(state(second), ["def", false, false])
      const third = yield* OutputCursor.read(id, second.cursor, { maxBytes: 3 })
      assert.deepStrictEqual(state(third), ["", false, false])
      assert.deepStrictEqual(third.cursor, second.cursor)
      // The other source has more; this one has not.
      const stdout = yield* OutputCursor.read(id, OutputCursor.make(), { maxBytes: 3, source: "stdout" })
      assert.deepStrictEqual(state(stdout), ["abc", false, false])
      assert.strictEqual(stdout.cursor.offset, 6)
      yield* TestClock.adjust("1 second")
      const last = yield* OutputCursor.read(id, third.cursor, { maxBytes: 2 })
      assert.deepStrictEqual(state(last), ["gh", false, true])
      assert.deepStrictEqual(state(yield* OutputCursor.read(id, first.cursor, { maxBytes: 3 })), ["def", true, true])
      assert.strictEqual((yield* OutputCursor.read(id, OutputCursor.make(7))).output[0]?.text, "h")
    }).pipe(simulate({
      output: [
        { source: "stdout", data: "abc" },
        { source: "stderr", data: "def" },
        { at: "1 second", source: "stderr", data: "gh" }
      ],
      end: { at: "1 second", code: 0 }
    })))

  it.effect("half a character waits in the cursor for its rest, and is U+FFFD at the end", () =>
    Effect.gen(function*() {
      const id = yield* start
      const first = yield* OutputCursor.read(id, OutputCursor.make())
      assert.deepStrictEqual(first.output, [{ source: "stdout", text: "a" }])
      assert.deepStrictEqual(yield* Schema.encode(OutputCursor.OutputCursor)(first.cursor), {
        offset: 3,
        stdout: "e282",
        stderr: ""
      })
      yield* TestClock.adjust("1 second")
      const last = yield* OutputCursor.read(id, first.cursor)
      assert.deepStrictEqual(last.output, [
        { source: "stderr", text: "x" },
        { source: "stdout", text: "€\ufffd" }
      ])
      assert.strictEqual(last.cursor.stdout.length, 0)
    }).pipe(simulate({
      output: [
        { source: "stdout", data: Uint8Array.of(0x61, 0xe2, 0x82) },
        { at: "1 second", source: "stderr", data: "x" },
        { at: "1 second", source: "stdout", data: Uint8Array.of(0xac, 0xf0, 0x9f) }
      ],
      end: { at: "1 second", code: 0 }
    })))

  it.effect("what was evicted fails, or is skipped and said", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* start
      yield* TestClock.adjust(50)
      const first = yield* OutputCursor.read(id, OutputCursor.make(), { maxBytes: 5000 })
      assert.isTrue(Option.isNone(first.skipped))
      yield* TestClock.adjust("1 second")
      const { evictedBytes } = (yield* jobs.info(id)).output
      const error = yield* Effect.flip(OutputCursor.read(id, first.cursor))
      assert.deepInclude(error, { _tag: "OutputEvicted", from: 5000, to: evictedBytes })
      const second = yield* OutputCursor.read(id, first.cursor, { whenBehind: "skip", maxBytes: 10 })
      assert.deepStrictEqual(second.skipped, Option.some({ from: 5000, to: evictedBytes }))
      assert.strictEqual(second.cursor.offset, evictedBytes + 10)
      assert.isTrue(second.hasMore)
    }).pipe(simulate(
      { output: Array.from({ length: 20 }, (_, i) => ({ at: i * 50, data: "x".repeat(10_000) })) },
      { output: { maxBytesPerJob: 50_000 } }
    )))

  it.effect("an unknown job, or options and cursors that make no sense, are no defects", () =>
    Effect.gen(function*() {
      const id = yield* start
      yield* TestClock.adjust(10)
      const error = yield* Effect.flip(OutputCursor.read(JobId.make(), OutputCursor.make()))
      assert.strictEqual(error._tag, "JobNotFound")
      for (const maxBytes of [0, -1, NaN, null, "x"] as Array<never>) {
        assert.strictEqual((yield* OutputCursor.read(id, OutputCursor.make(), { maxBytes })).output[0]?.text, "abc")
      }
      assert.deepStrictEqual((yield* OutputCursor.read(id, OutputCursor.make(1000))).output, [])
      assert.strictEqual(OutputCursor.make(NaN).offset, 0)
      for (const text of ["", "{}", "{\"offset\":-1}", "{\"offset\":0,\"stdout\":\"e28283aa\"}", "{\"offset\":1.5}"]) {
        assert.isTrue(Either.isLeft(Schema.decodeEither(Token)(text)), text)
      }
      assert.deepStrictEqual(Schema.decodeSync(Token)("{\"offset\":7}"), OutputCursor.make(7))
    }).pipe(simulate({ output: [{ data: "abc" }] })))
})
