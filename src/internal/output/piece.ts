/**
 * Some bytes of one source, which may grow as long as they are the last of their log.
 *
 * Reads that were merged into it keep the times at which they came: each time begins a chunk.
 */
import * as DateTime from "effect/DateTime"
import type { OutputChunk, OutputSource } from "../../Output.ts"

/** What a piece costs besides its bytes, with the chunk that readers get of it; measured. */
const pieceCost = 288

/** What a further time costs. */
const timeCost = 16

/** From this length on, that is lost in its bytes. */
const plainLength = 4096

/** A time and a place in one number: they are as many as there are lines. */
const placeBits = 2 ** 17
const maxElapsed = 2 ** 35

export class Piece {
  readonly source: OutputSource
  readonly offset: number
  /** When it came, among the pieces of all logs. */
  readonly age: number
  length: number
  private readonly storage: Uint8Array
  private readonly start: number
  /** When its first byte was read, and its last, in milliseconds. */
  private readonly millis: number
  private latest: number
  /** Further times: milliseconds since the first, and where in the piece the bytes begin that came then. */
  private times: Array<number> | undefined
  private chunk: OutputChunk | undefined

  constructor(
    source: OutputSource,
    offset: number,
    age: number,
    millis: number,
    storage: Uint8Array,
    start: number,
    length: number
  ) {
    this.source = source
    this.offset = offset
    this.age = age
    this.length = length
    this.storage = storage
    this.start = start
    this.millis = millis
    this.latest = millis
    this.times = undefined
    this.chunk = undefined
  }

  get end(): number {
    return this.offset + this.length
  }

  /** Bytes of memory, as far as bounds count them. */
  get cost(): number {
    const { length, times } = this
    return length + (length < plainLength ? pieceCost : 0) + (times === undefined ? 0 : times.length * timeCost)
  }

  /** Whether it may take the bytes that follow it in a storage, and came at a time. */
  isFollowedBy(storage: Uint8Array, millis: number): boolean {
    return this.storage === storage && millis >= this.latest && millis - this.millis < maxElapsed &&
      this.length < placeBits
  }

  grow(length: number, millis: number): void {
    if (millis !== this.latest) {
      const time = (millis - this.millis) * placeBits + this.length
      if (this.times === undefined) this.times = [time]
      else this.times.push(time)
      this.latest = millis
    }
    this.length += length
    this.chunk = undefined
  }

  /** Adds what it has between two offsets to some chunks, of which there may be so many. */
  addTo(chunks: Array<OutputChunk>, from: number, to: number, maxChunks: number): void {
    const { times } = this
    if (times === undefined) {
      if (chunks.length < maxChunks) chunks.push(cut(this.chunk ??= this.slice(0, this.length, this.millis), from, to))
      return
    }
    const first = Math.max(0, from - this.offset)
    let next = times.length
    while (next > 0 && placeOf(times[next - 1]) > first) next--
    for (let start = first; start < this.length && this.offset + start < to && chunks.length < maxChunks; next++) {
      const end = next < times.length ? placeOf(times[next]) : this.length
      const millis = next === 0 ? this.millis : this.millis + elapsedOf(times[next - 1])
      chunks.push(this.slice(start, Math.min(end, to - this.offset), millis))
      start = end
    }
  }

  /** Plain bytes: `slice` of a `Buffer` would not copy them. */
  private slice(start: number, end: number, millis: number): OutputChunk {
    const { offset, source, storage } = this
    return {
      source,
      offset: offset + start,
      bytes: new Uint8Array(storage.buffer, storage.byteOffset + this.start + start, end - start),
      at: dateTimeOf(millis)
    }
  }
}

const placeOf = (time: number | undefined = 0): number => time % placeBits

const elapsedOf = (time: number | undefined = 0): number => Math.floor(time / placeBits)

/** Chunks that came together share their time. */
let latest = DateTime.unsafeMake(0)

const dateTimeOf = (millis: number): DateTime.Utc =>
  latest.epochMillis === millis ? latest : (latest = DateTime.unsafeMake(millis))

const cut = (chunk: OutputChunk, from: number, to: number): OutputChunk => {
  const { at, bytes, offset, source } = chunk
  const before = Math.max(0, from - offset)
  const after = Math.max(0, offset + bytes.length - to)
  return before === 0 && after === 0
    ? chunk
    : { source, offset: offset + before, bytes: bytes.subarray(before, bytes.length - after), at }
}
