/**
 * The output of jobs as text, for programs that poll: an HTTP handler, a coding agent, a page that asks now and then.
 *
 * Nothing is open between two polls. The cursor is all that says how far a reader has come. It is plain data that
 * travels as JSON.
 *
 * @since 0.2.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { completeLength } from "./internal/text/utf8.ts"
import { JobCoordinator, type OutputError } from "./JobCoordinator.ts"
import type { OutputEvicted } from "./JobError.ts"
import type { JobId } from "./JobId.ts"
import type { OutputChunk, OutputSelection, OutputSource, OutputText } from "./Output.ts"

const Begun = Schema.Uint8ArrayFromHex.pipe(Schema.filter((bytes) => bytes.length < 4))

/**
 * How far a reader has come. `offset` is the place of the next byte in the job's output, both sources together.
 * `stdout` and `stderr` are the first bytes (at most three) of a character whose other bytes have not come yet.
 *
 * @since 0.2.0
 * @category models
 */
export const OutputCursor = Schema.Struct({
  offset: Schema.Int.pipe(Schema.nonNegative()),
  stdout: Schema.optionalWith(Begun, { default: () => new Uint8Array(0) }),
  stderr: Schema.optionalWith(Begun, { default: () => new Uint8Array(0) })
})

/**
 * How far a reader has come.
 *
 * @since 0.2.0
 * @category models
 */
export interface OutputCursor extends Schema.Schema.Type<typeof OutputCursor> {}

/**
 * What one poll gives.
 *
 * @since 0.2.0
 * @category models
 */
export interface Page {
  /** The text in order of arrival. Two neighbours are of different sources. */
  readonly output: ReadonlyArray<OutputText>
  /** Where the next poll goes on. */
  readonly cursor: OutputCursor
  /** Whether there is more to read now. */
  readonly hasMore: boolean
  /** Whether the job has ended. If so, and `hasMore` is false, this is the last page. */
  readonly hasEnded: boolean
  /** The bytes that were evicted before this page's output and left out: from `from` up to, but not including, `to`. */
  readonly skipped: Option.Option<{ readonly from: number; readonly to: number }>
}

/**
 * How to poll.
 *
 * - `source` (default `"all"`): which source to read. All polls with one cursor take the same.
 * - `maxBytes` (default 65,536): the most bytes to read. The text has at most three more UTF-16 code units for each
 *   source. The number is rounded down, and 16 Mi at most; anything but a number of at least 1 counts as the default.
 * - `whenBehind` (default `"fail"`): what to do if the next bytes were evicted. `"fail"`: fail with `OutputEvicted`.
 *   `"skip"`: go on with what is kept, and say so in `skipped`.
 *
 * @since 0.2.0
 * @category models
 */
export interface Options {
  readonly source?: OutputSelection | undefined
  readonly maxBytes?: number | undefined
  readonly whenBehind?: "fail" | "skip" | undefined
}

/**
 * A cursor at an offset, by default at the first byte, for a reader that has read nothing.
 *
 * @since 0.2.0
 * @category constructors
 */
export const make = (offset = 0): OutputCursor => ({
  offset: offset > 0 ? Math.floor(offset) : 0,
  stdout: new Uint8Array(0),
  stderr: new Uint8Array(0)
})

/**
 * Reads the next page of a job's output as UTF-8, from a cursor, without waiting for more. The texts of all pages, put
 * together for each source, are exactly the whole output as text, wherever a page cut a character. The first part of a
 * cut character waits in the cursor for the rest. It becomes U+FFFD at the job's end, or where something is skipped.
 *
 * @example
 * import { Effect, Schema } from "effect"
 * import { type JobId, OutputCursor } from "effect-joblib"
 *
 * const Token = Schema.parseJson(OutputCursor.OutputCursor)
 *
 * // What an HTTP handler answers; the client sends the token with its next request.
 * export const poll = (id: JobId.JobId, token?: string) =>
 *   Effect.gen(function*() {
 *     const cursor = token === undefined ? OutputCursor.make() : yield* Schema.decode(Token)(token)
 *     const page = yield* OutputCursor.read(id, cursor, { maxBytes: 30_000, whenBehind: "skip" })
 *     return {
 *       text: page.output.map(({ text }) => text).join(""),
 *       token: yield* Schema.encode(Token)(page.cursor),
 *       isComplete: page.hasEnded && !page.hasMore
 *     }
 *   })
 *
 * @since 0.2.0
 * @category combinators
 */
export const read = (
  id: JobId,
  cursor: OutputCursor,
  options?: Options
): Effect.Effect<Page, OutputError, JobCoordinator> =>
  Effect.gen(function*() {
    const jobs = yield* JobCoordinator
    const maxBytes = toByteCount(options?.maxBytes)
    // Before the output is read: what an ended job has written is all there.
    const info = yield* jobs.info(id)
    let from = cursor.offset
    let came = yield* chunksOf(jobs, id, from, maxBytes, options)
    while (Option.isSome(came.evicted) && came.chunks.length === 0) {
      if (options?.whenBehind !== "skip") return yield* Effect.fail(came.evicted.value)
      from = came.evicted.value.to
      came = yield* chunksOf(jobs, id, from, maxBytes, options)
    }
    const pager = new Pager(cursor, maxBytes)
    if (from > cursor.offset) pager.skip(from)
    for (const chunk of came.chunks) pager.add(chunk)
    // What has been evicted since is missed by the next poll.
    pager.hasMore ||= Option.isSome(came.evicted)
    return pager.page(Option.isSome(info.endedAt), info.output.stdoutBytes + info.output.stderrBytes)
  })

/** What is there from an offset on, one byte more than wanted to know whether there is more, or up to what is gone. */
const chunksOf = (
  jobs: JobCoordinator["Type"],
  id: JobId,
  from: number,
  maxBytes: number,
  options: Options | undefined
) =>
  Effect.suspend(() => {
    const chunks: Array<OutputChunk> = []
    return jobs.output(id, { source: options?.source, from, follow: false, maxBytes: maxBytes + 1 }).pipe(
      Stream.runForEach((chunk) => Effect.sync(() => chunks.push(chunk))),
      Effect.as(Option.none<OutputEvicted>()),
      Effect.catchTag("OutputEvicted", Effect.succeedSome),
      Effect.map((evicted) => ({ chunks, evicted }))
    )
  })

/** Makes a page of what comes after a cursor. */
class Pager {
  hasMore = false
  private offset: number
  private wanted: number
  private readonly begun: { stdout: Uint8Array; stderr: Uint8Array }
  private readonly output: Array<OutputText> = []
  private skipped: Page["skipped"] = Option.none()

  constructor(cursor: OutputCursor, maxBytes: number) {
    this.offset = cursor.offset
    this.wanted = maxBytes
    this.begun = { stdout: cursor.stdout, stderr: cursor.stderr }
  }

  skip(to: number): void {
    this.giveUpBegun()
    this.skipped = Option.some({ from: this.offset, to })
    this.offset = to
  }

  add(chunk: OutputChunk): void {
    const { source } = chunk
    const taken = chunk.bytes.subarray(0, this.wanted)
    this.hasMore ||= taken.length < chunk.bytes.length
    if (taken.length === 0) return
    this.wanted -= taken.length
    this.offset = chunk.offset + taken.length
    const bytes = concat(this.begun[source], taken)
    const length = completeLength(bytes)
    this.begun[source] = bytes.slice(length)
    this.write(source, bytes.subarray(0, length))
  }

  page(hasEnded: boolean, total: number): Page {
    const { hasMore, output, skipped } = this
    if (hasEnded && !hasMore) this.giveUpBegun()
    // What the other source has written need not be looked through again.
    const offset = hasMore ? this.offset : Math.max(this.offset, total)
    return { output, cursor: { offset, ...this.begun }, hasMore, hasEnded, skipped }
  }

  /** The rest of these characters will not come. */
  private giveUpBegun(): void {
    for (const source of ["stdout", "stderr"] as const) {
      this.write(source, this.begun[source])
      this.begun[source] = new Uint8Array(0)
    }
  }

  private write(source: OutputSource, bytes: Uint8Array): void {
    if (bytes.length === 0) return
    const text = decoder.decode(bytes)
    const last = this.output.at(-1)
    if (last?.source === source) this.output[this.output.length - 1] = { source, text: last.text + text }
    else this.output.push({ source, text })
  }
}

const concat = (a: Uint8Array, b: Uint8Array): Uint8Array => {
  if (a.length === 0) return b
  const bytes = new Uint8Array(a.length + b.length)
  bytes.set(a)
  bytes.set(b, a.length)
  return bytes
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

const defaultMaxBytes = 65_536

const largestMaxBytes = 16 * 1024 * 1024

const toByteCount = (bytes: number | undefined): number =>
  bytes !== undefined && bytes >= 1 ? Math.floor(Math.min(bytes, largestMaxBytes)) : defaultMaxBytes
