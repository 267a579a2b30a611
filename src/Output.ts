/**
 * The output of jobs: its chunks, how to read it, and how to make text and lines of it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as lineSplitter from "./internal/text/lineSplitter.ts"
import * as perSource from "./internal/text/perSource.ts"
import { OutputTooLarge } from "./JobError.ts"

/**
 * One of the two pipes of a job.
 *
 * @since 0.1.0
 * @category models
 */
export const OutputSource = Schema.Literal("stdout", "stderr")

/**
 * One of the two pipes of a job.
 *
 * @since 0.1.0
 * @category models
 */
export type OutputSource = typeof OutputSource.Type

/**
 * Which output to read: that of one source, or all of it.
 *
 * @since 0.1.0
 * @category models
 */
export type OutputSelection = "all" | OutputSource

/**
 * Some bytes of one source, their offset in the output, and the time when they came. A reader that has had this chunk
 * resumes with `from: offset + bytes.length`.
 *
 * @since 0.1.0
 * @category models
 */
export const OutputChunk = Schema.Struct({
  /** The pipe that the bytes came from. */
  source: OutputSource,
  /** The place of the first byte in the job's output, both sources together, in order of arrival. */
  offset: Schema.Int.pipe(Schema.nonNegative()),
  /** A plain `Uint8Array`, which the log and other readers share. Write only to a copy, such as `bytes.slice()`. */
  bytes: Schema.Uint8ArrayFromBase64,
  /** When the first byte was read from the job. Reads less than 10 milliseconds apart may share a time. */
  at: Schema.DateTimeUtc
})

/**
 * Some bytes of one source, their offset in the output, and the time when they came.
 *
 * @since 0.1.0
 * @category models
 */
export interface OutputChunk extends Schema.Schema.Type<typeof OutputChunk> {}

/**
 * How to read the output of a job.
 *
 * - `source` (default `"all"`): which source to read.
 * - `from` (default `"start"`): where to begin. `"start"`: the first byte of the job. `"end"`: only what comes from now
 *   on. A number: the byte at that offset. `{ tail }`: the last so many bytes of the chosen source, or what is kept of
 *   them.
 * - `follow` (default `true`): whether to go on until the job ends. `false`: end with what is there now.
 * - `maxBytes` (default: no limit): end after so many bytes. A reader resumes as it does after any chunk. The number is
 *   rounded down; anything but a number above 0 counts as 0, with which the output ends at once.
 * - `whenBehind` (default `"fail"`): what a reader wants whose next bytes were evicted, or would be. `"fail"`: it fails
 *   with `OutputEvicted`. `"skip"`: it goes on with what is kept, and the offsets show the gap. `"block"`: nothing that
 *   it has yet to read is evicted, and a full log makes the job wait. With `"skip"`, if nothing more comes after a gap,
 *   the last chunk has no bytes, and its offset is the end of the gap. No other chunk is empty.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options extends SourceOptions {
  readonly source?: OutputSelection | undefined
}

/**
 * How to read one source; `Options` says what the options mean.
 *
 * @since 0.1.0
 * @category models
 */
export interface SourceOptions {
  readonly from?: "start" | "end" | number | { readonly tail: number } | undefined
  readonly follow?: boolean | undefined
  readonly maxBytes?: number | undefined
  readonly whenBehind?: "fail" | "skip" | "block" | undefined
}

/**
 * Encodings of text, by their standard names. ASCII and Latin-1 are parts of `"windows-1252"`. EUC-JP, ISO-2022-JP and
 * GB 18030 (`"gbk"` is most of it) are missing, although `TextDecoder` knows them: Node's decoder throws when wrong
 * bytes of them come one by one.
 *
 * @since 0.1.0
 * @category models
 */
export const Encoding = Schema.Literal(
  "utf-8",
  "utf-16le",
  "utf-16be",
  "windows-1250",
  "windows-1251",
  "windows-1252",
  "windows-1253",
  "windows-1254",
  "windows-1255",
  "windows-1256",
  "windows-1257",
  "windows-1258",
  "windows-874",
  "iso-8859-2",
  "iso-8859-3",
  "iso-8859-4",
  "iso-8859-5",
  "iso-8859-6",
  "iso-8859-7",
  "iso-8859-8",
  "iso-8859-8-i",
  "iso-8859-10",
  "iso-8859-13",
  "iso-8859-14",
  "iso-8859-15",
  "koi8-r",
  "koi8-u",
  "ibm866",
  "macintosh",
  "x-mac-cyrillic",
  "gbk",
  "big5",
  "shift_jis",
  "euc-kr"
)

/**
 * The name of an encoding of text.
 *
 * @since 0.1.0
 * @category models
 */
export type Encoding = typeof Encoding.Type

/**
 * Some `text` of one `source`.
 *
 * @since 0.1.0
 * @category models
 */
export interface OutputText {
  readonly source: OutputSource
  readonly text: string
}

/**
 * A `line` of one `source`, without its end. `isCut`: the line was longer than `maxLength`, and goes on in the next
 * line of its source.
 *
 * @since 0.1.0
 * @category models
 */
export interface OutputLine {
  readonly source: OutputSource
  readonly line: string
  readonly isCut: boolean
}

/**
 * How to cut output into lines.
 *
 * - `delimiter` (default `"\n"`): what ends a line. `"\n"`: a `\n` or `\r\n`; a `\r` alone stays in the line. `"\r"`: a
 *   `\r`, a `\n` or `\r\n`, so that each state of a progress bar is a line. `"\0"`: only a NUL, as `find -print0`
 *   writes it.
 * - `maxLength` (default 16 Mi): the most UTF-16 code units in a line. A longer line comes in pieces of that length,
 *   and all but the last have `isCut`. A character is never cut in two, so a piece may be one shorter. The number is
 *   rounded down; anything but a number of at least 2 counts as the default.
 * - `encoding` (default `"utf-8"`): the encoding of the text.
 *
 * @since 0.2.0
 * @category models
 */
export interface LinesOptions {
  readonly delimiter?: "\n" | "\r" | "\0" | undefined
  readonly maxLength?: number | undefined
  readonly encoding?: Encoding | undefined
}

/**
 * The bytes alone, without their offsets and sources.
 *
 * @example
 * import { Effect, Stream } from "effect"
 * import { JobCoordinator, type JobId, Output } from "effect-joblib"
 *
 * export const countBytes = (id: JobId.JobId) =>
 *   Effect.gen(function*() {
 *     const jobs = yield* JobCoordinator.JobCoordinator
 *     return yield* jobs.output(id).pipe(Output.bytes, Stream.runFold(0, (size, bytes) => size + bytes.length))
 *   })
 *
 * @since 0.1.0
 * @category combinators
 */
export const bytes = <E, R>(output: Stream.Stream<OutputChunk, E, R>): Stream.Stream<Uint8Array, E, R> =>
  Stream.map(output, (chunk) => chunk.bytes)

/**
 * The output as text. Each source is decoded on its own: a character whose bytes came in two chunks comes whole, with
 * the second chunk. Bytes that are no text become U+FFFD. A byte order mark stays where it is. The default `encoding`
 * is `"utf-8"`.
 *
 * @example
 * import { Effect, Stream } from "effect"
 * import { JobCoordinator, type JobId, Output } from "effect-joblib"
 *
 * export const waitUntilReady = (id: JobId.JobId) =>
 *   Effect.gen(function*() {
 *     const jobs = yield* JobCoordinator.JobCoordinator
 *     yield* jobs.output(id).pipe(
 *       Output.text("windows-1252"),
 *       Stream.takeUntil(({ text }) => text.endsWith("> ")),
 *       Stream.runDrain
 *     )
 *   })
 *
 * @since 0.1.0
 * @category combinators
 */
export const text =
  (encoding: Encoding = "utf-8") => <E, R>(output: Stream.Stream<OutputChunk, E, R>): Stream.Stream<OutputText, E, R> =>
    perSource.transform(output, (source, emit: (text: OutputText) => void) => {
      const decoder = makeDecoder(encoding)
      const emitText = (text: string) => text === "" ? undefined : emit({ source, text })
      return {
        push: (bytes) => emitText(decoder.decode(bytes, { stream: true })),
        end: () => emitText(decoder.decode())
      }
    })

/**
 * The output as lines. The two sources are kept apart: a line comes when its end comes, however its bytes were cut and
 * whatever the other source wrote meanwhile. Text without an end is a line too when the stream ends or fails. The text
 * is decoded as by `text`. `LinesOptions` says what ends a line, and how long a line may be.
 *
 * With `whenBehind: "skip"`, the rests of the lines on both sides of a gap come as one line.
 *
 * @example
 * import { Console, Effect, Stream } from "effect"
 * import { JobCoordinator, type JobId, Output } from "effect-joblib"
 *
 * export const printErrors = (id: JobId.JobId) =>
 *   Effect.gen(function*() {
 *     const jobs = yield* JobCoordinator.JobCoordinator
 *     yield* jobs.output(id, { source: "stderr" }).pipe(
 *       Output.lines({ maxLength: 1000 }),
 *       Stream.runForEach(({ isCut, line }) => Console.error(isCut ? `${line} …` : line))
 *     )
 *   })
 *
 * @since 0.1.0
 * @category combinators
 */
export const lines =
  (options?: LinesOptions) => <E, R>(output: Stream.Stream<OutputChunk, E, R>): Stream.Stream<OutputLine, E, R> =>
    perSource.transform(output, (source, emit: (line: OutputLine) => void) => {
      const decoder = makeDecoder(options?.encoding)
      const splitter = lineSplitter.make(
        toDelimiter(options?.delimiter),
        toLineLength(options?.maxLength),
        (line, isCut) => emit({ source, line, isCut })
      )
      return {
        push: (bytes) => splitter.push(decoder.decode(bytes, { stream: true })),
        end: () => {
          splitter.push(decoder.decode())
          splitter.end()
        }
      }
    })

/**
 * The whole output, as one text for each source.
 *
 * - `maxBytes` (default 16 MiB): the most bytes there may be, both sources together. With more, it fails with
 *   `OutputTooLarge` as soon as they come. A string cannot be longer than just under 512 MiB, so that is the upper
 *   limit.
 * - `encoding` (default `"utf-8"`): the text is decoded as by `text`.
 *
 * @example
 * import { Effect } from "effect"
 * import { JobCoordinator, JobSpec, Output } from "effect-joblib"
 *
 * export const currentBranch = Effect.gen(function*() {
 *   const jobs = yield* JobCoordinator.JobCoordinator
 *   const id = yield* jobs.start(JobSpec.make({ command: "git", args: ["branch", "--show-current"] }))
 *   const { stdout } = yield* jobs.output(id).pipe(Output.collect({ maxBytes: 4096 }))
 *   return stdout.trim()
 * })
 *
 * @since 0.1.0
 * @category combinators
 */
export const collect = (
  options?: { readonly maxBytes?: number | undefined; readonly encoding?: Encoding | undefined }
) =>
<E, R>(
  output: Stream.Stream<OutputChunk, E, R>
): Effect.Effect<{ readonly stdout: string; readonly stderr: string }, E | OutputTooLarge, R> =>
  Effect.suspend(() => {
    const maxBytes = toByteCount(options?.maxBytes ?? defaultMaxBytes)
    const decoders = { stdout: makeDecoder(options?.encoding), stderr: makeDecoder(options?.encoding) }
    const collected = { stdout: "", stderr: "" }
    let size = 0
    return output.pipe(
      Stream.runForEachChunk((chunks) => {
        for (const { bytes, source } of chunks) {
          size += bytes.length
          if (size > maxBytes) return Effect.fail(new OutputTooLarge({ maxBytes }))
          collected[source] += decoders[source].decode(bytes, { stream: true })
        }
        return Effect.void
      }),
      Effect.map(() => ({
        stdout: collected.stdout + decoders.stdout.decode(),
        stderr: collected.stderr + decoders.stderr.decode()
      }))
    )
  })

const defaultLineLength = 16 * 1024 * 1024

const toLineLength = (length: number | undefined): number =>
  length !== undefined && length >= 2 ? Math.floor(length) : defaultLineLength

const toDelimiter = (delimiter: LinesOptions["delimiter"]): lineSplitter.Delimiter =>
  delimiter === "\r" || delimiter === "\0" ? delimiter : "\n"

const defaultMaxBytes = 16 * 1024 * 1024

/** The longest string of V8; no encoding makes more than one UTF-16 unit of a byte. */
const maxStringLength = 2 ** 29 - 24

const toByteCount = (bytes: number): number => bytes > 0 ? Math.floor(Math.min(bytes, maxStringLength)) : 0

// A mark that is kept can be removed by whoever does not want it; one that is gone cannot be told from one never written.
const makeDecoder = (encoding: Encoding = "utf-8") => new TextDecoder(encoding, { ignoreBOM: true })
