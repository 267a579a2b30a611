import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Chunk from "effect/Chunk"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { OutputTooLarge } from "../src/JobError.ts"
import * as Output from "../src/Output.ts"

const at = DateTime.unsafeMake(0)

const encode = (text: string): Uint8Array => new TextEncoder().encode(text)

interface Written {
  readonly stdout: Uint8Array
  readonly stderr: Uint8Array
}

const sources = ["stdout", "stderr"] as const

/** What was written to the two sources, cut and mixed as the turns say; what no turn took comes at the end. */
const mix = (
  written: Written,
  turns: ReadonlyArray<readonly [Output.OutputSource, number]>
): ReadonlyArray<Output.OutputChunk> => {
  const chunks: Array<Output.OutputChunk> = []
  const taken = { stdout: 0, stderr: 0 }
  const take = (source: Output.OutputSource, size: number) => {
    const bytes = written[source].subarray(taken[source], taken[source] + size)
    if (bytes.length > 0) chunks.push({ source, offset: taken.stdout + taken.stderr, bytes, at })
    taken[source] += bytes.length
  }
  for (const [source, size] of turns) take(source, size)
  for (const source of sources) take(source, Infinity)
  return chunks
}

const Turns = FastCheck.array(
  FastCheck.tuple(FastCheck.constantFrom(...sources), FastCheck.integer({ max: 7, min: 1 }))
)

/** The chunks as a stream of batches, as a subscription gives them. */
const toStream = (chunks: ReadonlyArray<Output.OutputChunk>, batchSize = 3): Stream.Stream<Output.OutputChunk> =>
  Stream.rechunk(Stream.fromIterable(chunks), batchSize)

const bySource = <A extends { readonly source: Output.OutputSource }, B>(items: Iterable<A>, get: (item: A) => B) => {
  const found: { stdout: Array<B>; stderr: Array<B> } = { stdout: [], stderr: [] }
  for (const item of items) found[item.source].push(get(item))
  return found
}

const Text = FastCheck.string({
  unit: FastCheck.oneof(
    FastCheck.constantFrom("\n", "\r\n", "\r", "\ufeff", "é", "€", "😀"),
    FastCheck.string({ maxLength: 1, unit: "binary" })
  )
})

const linesOf = (text: string): ReadonlyArray<string> => {
  const lines = text.split("\n")
  const last = lines.pop()
  const ended = lines.map((line) => line.endsWith("\r") ? line.slice(0, -1) : line)
  return last === undefined || last === "" ? ended : [...ended, last]
}

const chunk = (source: Output.OutputSource, data: string | ReadonlyArray<number>, offset = 0): Output.OutputChunk => ({
  source,
  offset,
  bytes: typeof data === "string" ? encode(data) : Uint8Array.from(data),
  at
})

const collectLines = <E>(output: Stream.Stream<Output.OutputLine, E>) =>
  output.pipe(
    Stream.runCollect,
    Effect.map((lines) => Array.from(lines, ({ line, source }) => `${source}: ${line}`))
  )

/** A program that writes for ever, and says how much of it was read. */
const endless = () => {
  const read = { chunks: 0 }
  const output = Stream.repeatEffectChunk(Effect.sync(() => {
    read.chunks++
    return Chunk.of(chunk("stdout", "x".repeat(100)))
  }))
  return { output, read }
}

describe("OutputChunk", () => {
  it.prop("becomes JSON and back", [Arbitrary.make(Output.OutputChunk)], ([value]) => {
    const json = JSON.stringify(Schema.encodeSync(Output.OutputChunk)(value))
    assert.deepStrictEqual(Schema.decodeUnknownSync(Output.OutputChunk)(JSON.parse(json)), value)
  })
})

describe("bytes", () => {
  it.effect("are those of both sources, in order", () =>
    Effect.gen(function*() {
      const output = Stream.make(chunk("stdout", "a"), chunk("stderr", [0, 255]), chunk("stdout", "b"))
      const bytes = yield* Stream.runCollect(Output.bytes(output))
      assert.deepStrictEqual(Array.from(bytes, (part) => Array.from(part)), [[97], [0, 255], [98]])
    }))
})

describe("text", () => {
  const textsOf = (output: Stream.Stream<Output.OutputChunk>, encoding?: Output.Encoding) => {
    const texts = Effect.runSync(Stream.runCollect(Output.text(encoding)(output)))
    assert.isTrue(Chunk.every(texts, ({ text }) => text !== ""))
    const { stderr, stdout } = bySource(texts, ({ text }) => text)
    return { stdout: stdout.join(""), stderr: stderr.join("") }
  }

  it.prop("is what was written to each source, however it was cut", [Text, Text, Turns], ([stdout, stderr, turns]) => {
    const chunks = mix({ stdout: encode(stdout), stderr: encode(stderr) }, turns)
    assert.deepStrictEqual(textsOf(toStream(chunks)), { stdout, stderr })
  })

  const Bytes = FastCheck.uint8Array({ maxLength: 40 })

  for (const encoding of Output.Encoding.literals) {
    it.prop(
      `decodes ${encoding} as TextDecoder does, valid or not, however it was cut`,
      [Bytes, Bytes, Turns],
      ([stdout, stderr, turns]) => {
        // In one piece, but as a stream: without that, Node 20 takes windows-1252 for ISO 8859-1.
        const decode = (bytes: Uint8Array) => {
          const decoder = new TextDecoder(encoding, { ignoreBOM: true })
          return decoder.decode(bytes, { stream: true }) + decoder.decode()
        }
        assert.deepStrictEqual(textsOf(toStream(mix({ stdout, stderr }, turns)), encoding), {
          stdout: decode(stdout),
          stderr: decode(stderr)
        })
      }
    )
  }

  it.effect("keeps a byte order mark", () =>
    Effect.gen(function*() {
      const texts = yield* Stream.runCollect(Output.text()(Stream.make(chunk("stdout", "\ufeffa"))))
      assert.deepStrictEqual(Chunk.toReadonlyArray(texts), [{ source: "stdout", text: "\ufeffa" }])
    }))

  it.effect("gives half a character as U+FFFD once no more can come", () =>
    Effect.gen(function*() {
      const output = Stream.make(chunk("stdout", [0xe2, 0x82]), chunk("stderr", "b"))
      const texts = yield* Stream.runCollect(Output.text()(output))
      assert.deepStrictEqual(Chunk.toReadonlyArray(texts), [
        { source: "stderr", text: "b" },
        { source: "stdout", text: "\ufffd" }
      ])
    }))
})

describe("lines", () => {
  it.prop(
    "are those written to each source, however they were cut and mixed",
    [Text, Text, Turns],
    ([stdout, stderr, turns]) => {
      const output = toStream(mix({ stdout: encode(stdout), stderr: encode(stderr) }, turns))
      const lines = Effect.runSync(Stream.runCollect(Output.lines()(output)))
      assert.deepStrictEqual(bySource(lines, ({ line }) => line), { stdout: linesOf(stdout), stderr: linesOf(stderr) })
    }
  )

  it.effect("come when they end, whatever the other source has begun", () =>
    Effect.gen(function*() {
      const output = Stream.make(
        chunk("stdout", "out 1, "),
        chunk("stderr", "err 1, "),
        chunk("stdout", "out 2\r"),
        chunk("stderr", "err 2\nerr 3"),
        chunk("stdout", "\n\nout \r 3\r")
      )
      assert.deepStrictEqual(yield* collectLines(Output.lines()(output)), [
        "stderr: err 1, err 2",
        "stdout: out 1, out 2",
        "stdout: ",
        "stdout: out \r 3\r",
        "stderr: err 3"
      ])
    }))

  it.effect("are found in encodings whose line end is not one byte", () =>
    Effect.gen(function*() {
      const bytes = Uint8Array.from(Buffer.from("caf\u010a\r\n\u0a0d\n", "utf16le"))
      const chunks = Array.from(bytes, (byte, offset) => chunk("stdout", [byte], offset))
      assert.deepStrictEqual(yield* collectLines(Output.lines({ encoding: "utf-16le" })(toStream(chunks))), [
        "stdout: caf\u010a",
        "stdout: \u0a0d"
      ])
    }))

  it.effect("of a stream that fails come before the failure, the last one too", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const error = yield* Stream.make(chunk("stdout", "a\nb")).pipe(
        Stream.concat(Stream.fail("lost")),
        Output.lines(),
        Stream.runForEach(({ line }) => Effect.sync(() => seen.push(line))),
        Effect.flip
      )
      assert.strictEqual(error, "lost")
      assert.deepStrictEqual(seen, ["a", "b"])
    }))

  it.effect("start anew each time that the stream runs", () =>
    Effect.gen(function*() {
      const lines = Output.lines()(Stream.make(chunk("stdout", "a\nb")))
      yield* Stream.runHead(lines)
      assert.deepStrictEqual(yield* collectLines(lines), ["stdout: a", "stdout: b"])
    }))

  it.effect("of one batch of chunks come as one batch", () =>
    Effect.gen(function*() {
      const batch = Chunk.makeBy(10, (i) => chunk("stdout", `${i}\n${i}\n`))
      const batches = yield* Stream.fromChunks(batch, Chunk.of(chunk("stdout", "half")), batch).pipe(
        Output.lines(),
        Stream.chunks,
        Stream.runCollect
      )
      assert.deepStrictEqual(Array.from(batches, Chunk.size), [20, 20])
    }))

  it.effect("of a progress bar come one for each state, as soon as it is drawn", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      yield* Stream.make("\r10 %", "\r20 %\r", "100 %\r", "\ndone\n").pipe(
        Stream.map((text) => chunk("stderr", text)),
        Stream.rechunk(1),
        Stream.tap(() => Effect.sync(() => seen.push("|"))),
        Output.lines({ delimiter: "\r" }),
        Stream.runForEach(({ line }) => Effect.sync(() => seen.push(line)))
      )
      assert.deepStrictEqual(seen, ["|", "", "|", "10 %", "20 %", "|", "100 %", "|", "done"])
    }))

  it.effect("end with NUL if that is asked for, and keep every other character", () =>
    Effect.gen(function*() {
      const output = Stream.make(chunk("stdout", "a\nb\r\n\0"), chunk("stdout", "\0./c d\0"))
      assert.deepStrictEqual(yield* collectLines(Output.lines({ delimiter: "\0" })(output)), [
        "stdout: a\nb\r\n",
        "stdout: ",
        "stdout: ./c d"
      ])
    }))

  it.effect("that are longer than maxLength say that they are cut", () =>
    Effect.gen(function*() {
      const output = Stream.make(chunk("stdout", "abcdefg\nab"), chunk("stderr", "x\n"), chunk("stdout", "c\nabcd"))
      const lines = yield* Stream.runCollect(Output.lines({ maxLength: 3 })(output))
      assert.deepStrictEqual(Array.from(lines, ({ isCut, line, source }) => `${source} ${line}${isCut ? "…" : ""}`), [
        "stdout abc…",
        "stdout def…",
        "stdout g",
        "stderr x",
        "stdout abc",
        "stdout abc…",
        "stdout d"
      ])
    }))

  it.effect("have no defect for options that make no sense", () =>
    Effect.gen(function*() {
      const output = Stream.make(chunk("stdout", "a\rb\nc"))
      for (const options of [null, { maxLength: 0 }, { maxLength: NaN }, { maxLength: "3" }, { delimiter: "x" }]) {
        const lines = yield* collectLines(Output.lines(options as never)(output))
        assert.deepStrictEqual(lines, ["stdout: a\rb", "stdout: c"], JSON.stringify(options))
      }
    }))

  it.effect("come in pieces when they are longer than 16 Mi characters", () =>
    Effect.gen(function*() {
      const part = chunk("stdout", "x".repeat(2 ** 20))
      const output = Stream.make(part).pipe(Stream.forever, Stream.take(19))
      const lines = yield* Stream.runCollect(Output.lines()(output))
      assert.deepStrictEqual(Array.from(lines, ({ line }) => line.length), [2 ** 24, 3 * 2 ** 20])
    }))
})

describe("collect", () => {
  it.prop("gives all that was written to each source", [Text, Text, Turns], ([stdout, stderr, turns]) => {
    const output = toStream(mix({ stdout: encode(stdout), stderr: encode(stderr) }, turns))
    assert.deepStrictEqual(Effect.runSync(Output.collect()(output)), { stdout, stderr })
  })

  it.effect("takes maxBytes of both sources together, and not one more", () =>
    Effect.gen(function*() {
      const output = Stream.make(chunk("stdout", "é"), chunk("stderr", "bc"))
      assert.deepStrictEqual(yield* Output.collect({ maxBytes: 4 })(output), { stdout: "é", stderr: "bc" })
      const error = yield* Effect.flip(Output.collect({ maxBytes: 3 })(output))
      assert.deepStrictEqual(error, new OutputTooLarge({ maxBytes: 3 }))
    }))

  it.effect("fails as soon as there is too much, without reading on", () =>
    Effect.gen(function*() {
      const { output, read } = endless()
      yield* Effect.flip(Output.collect({ maxBytes: 1000 })(output))
      assert.strictEqual(read.chunks, 11)
    }))

  it.effect("takes 16 MiB unless told otherwise", () =>
    Effect.gen(function*() {
      const mebibyte = chunk("stdout", "x".repeat(2 ** 20))
      const collect = (mebibytes: number) =>
        Output.collect()(Stream.make(...Array<typeof mebibyte>(mebibytes).fill(mebibyte)))
      assert.strictEqual((yield* collect(16)).stdout.length, 16 * 2 ** 20)
      assert.strictEqual((yield* Effect.flip(collect(17))).maxBytes, 16 * 2 ** 20)
    }))

  it.effect("has no defect for a limit that makes no sense", () =>
    Effect.gen(function*() {
      const output = Stream.make(chunk("stdout", "ab"))
      for (const maxBytes of [-1, NaN, 0, 0.5, -Infinity]) {
        assert.deepStrictEqual(
          yield* Effect.flip(Output.collect({ maxBytes })(output)),
          new OutputTooLarge({ maxBytes: 0 })
        )
      }
      assert.deepStrictEqual(yield* Output.collect({ maxBytes: Infinity })(output), { stdout: "ab", stderr: "" })
    }))

  it.effect("decodes the encoding asked for", () =>
    Effect.gen(function*() {
      const output = Stream.make(chunk("stdout", [0x82]), chunk("stderr", [0xb1]), chunk("stdout", [0xa0]))
      assert.deepStrictEqual(yield* Output.collect({ encoding: "shift_jis" })(output), {
        stdout: "あ",
        stderr: "\uff71"
      })
    }))

  it.effect("passes on what makes the stream fail", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* Effect.flip(Output.collect()(Stream.fail("lost"))), "lost")
    }))
})
