/**
 * What readers see of a log, all of it or one source, and the batches in which they get it.
 */
import * as Chunk from "effect/Chunk"
import type { OutputChunk } from "../../Output.ts"
import type { Piece } from "./piece.ts"

/** What of a view lies between two offsets. */
export interface Batch {
  readonly from: number
  readonly to: number
  readonly chunks: Chunk.Chunk<OutputChunk>
}

/** How many bytes a reader gets at once, and how many chunks. */
export const maxBatchBytes = 256 * 1024
const maxBatchChunks = 4096

/** How many chunks the batches have that are kept for other readers, who ask for the same. */
const maxKeptChunks = 4096

/** Where a batch that begins somewhere ends at the latest: at the same places for all, so that readers meet there. */
export const batchEnd = (from: number): number => (Math.floor(from / maxBatchBytes) + 1) * maxBatchBytes

export class View {
  /** Up to here, bytes of this view are gone. */
  start = 0
  /** Bytes that are kept. */
  size = 0
  private readonly pieces: Array<Piece | undefined> = []
  /** How many of `pieces` are evicted: empty places that wait to be cut off. */
  private evicted = 0
  /** Those that are as long as they may be, by their beginning; what comes does not change them. Most jobs have none. */
  private whole: Map<number, Batch> | undefined
  private kept = 0
  /** The one up to the head that was asked for last: readers at the head ask for the same one after another. */
  private latest: Batch | undefined

  get first(): Piece | undefined {
    return this.pieces[this.evicted]
  }

  get last(): Piece | undefined {
    return this.pieces.at(-1)
  }

  get count(): number {
    return this.pieces.length - this.evicted
  }

  push(piece: Piece): void {
    this.pieces.push(piece)
  }

  evictFirst(): Piece | undefined {
    const piece = this.first
    if (piece === undefined) return undefined
    this.start = piece.end
    this.size -= piece.length
    this.pieces[this.evicted++] = undefined
    if (this.latest !== undefined && this.latest.from < this.start) this.latest = undefined
    this.whole?.forEach((batch, from) => {
      if (from < this.start) this.forget(batch)
    })
    // Cut off in bulk: to shift an array for each piece would cost its length each time.
    if (this.evicted > 1024 && this.evicted * 2 > this.pieces.length) {
      this.pieces.splice(0, this.evicted)
      this.evicted = 0
    }
    return piece
  }

  /** The first batch of what is kept from one offset up to another; without chunks if that is nothing. */
  batch(from: number, to: number): Batch {
    const { latest } = this
    if (latest !== undefined && latest.from === from && latest.to === to) return latest
    const known = this.whole?.get(from)
    if (known !== undefined && known.to <= to) return known
    const index = this.indexOf(from)
    const start = Math.max(from, this.pieces[index]?.offset ?? to)
    if (start >= to) return { from, to, chunks: Chunk.empty() }
    const end = Math.min(to, batchEnd(start))
    const chunks = this.chunks(index, from, end, maxBatchChunks)
    const last = chunks.at(-1)
    const isWhole = last !== undefined && chunks.length === maxBatchChunks
    const batch = {
      from,
      to: isWhole ? last.offset + last.bytes.length : end,
      chunks: Chunk.unsafeFromArray(chunks)
    }
    if (isWhole || end < to || end === batchEnd(start)) this.keep(batch)
    else this.latest = batch
    return batch
  }

  /** All that is kept from one offset up to another. */
  read(from: number, to: number): Chunk.Chunk<OutputChunk> {
    return Chunk.unsafeFromArray(this.chunks(this.indexOf(from), from, to, Infinity))
  }

  /** The position of the last `count` bytes, or of what is kept of them. */
  tail(count: number): number {
    let missing = count
    for (let i = this.pieces.length - 1; i >= this.evicted; i--) {
      const piece = this.pieces[i] as Piece
      if (piece.length >= missing) return piece.end - missing
      missing -= piece.length
    }
    return this.start
  }

  private keep(batch: Batch): void {
    const whole = this.whole ??= new Map()
    this.kept += batch.chunks.length
    for (const oldest of whole.values()) {
      if (this.kept <= maxKeptChunks) break
      this.forget(oldest)
    }
    whole.set(batch.from, batch)
  }

  private forget(batch: Batch): void {
    this.whole?.delete(batch.from)
    this.kept -= batch.chunks.length
  }

  private chunks(index: number, from: number, to: number, maxChunks: number): Array<OutputChunk> {
    const chunks: Array<OutputChunk> = []
    for (let i = index; i < this.pieces.length && chunks.length < maxChunks; i++) {
      const piece = this.pieces[i] as Piece
      if (piece.offset >= to) break
      piece.addTo(chunks, from, to, maxChunks)
    }
    return chunks
  }

  /** The index of the first piece that reaches beyond a position. */
  private indexOf(position: number): number {
    let low = this.evicted
    let high = this.pieces.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.pieces[middle] as Piece).end > position) high = middle
      else low = middle + 1
    }
    return low
  }
}
