/**
 * The output of one job: an append-only log of chunks, read by position and evicted from its beginning.
 *
 * Positions are offsets in bytes, both sources together. Reads as they came from a pipe are kept as they are, because to
 * copy them costs more than half of reading them; small ones are copied together, because each would cost several times
 * its size.
 */
import * as Chunk from "effect/Chunk"
import * as Option from "effect/Option"
import type { CoordinatorStopped } from "../../JobError.ts"
import type { OutputChunk, OutputSelection, OutputSource } from "../../Output.ts"
import * as Telemetry from "../telemetry/telemetry.ts"
import type { OutputBudget } from "./outputBudget.ts"

/** Some bytes of one source, which may grow as long as it is the last of its log. */
interface Piece {
  readonly source: OutputSource
  readonly offset: number
  /** When it came, among the pieces of all logs. */
  readonly age: number
  readonly storage: Uint8Array
  readonly start: number
  length: number
  /** As readers get it; made when the first one asks. */
  chunk: OutputChunk | undefined
}

/** What readers see of a log: all of it, or one source. */
interface View {
  readonly pieces: Array<Piece | undefined>
  /** How many of `pieces` are evicted: empty places that wait to be cut off. */
  evicted: number
  /** Up to here, bytes of this view are gone. */
  start: number
  /** Bytes that are kept. */
  size: number
  /** The batch that was read last: readers at the head ask for the same one after another. */
  batch: { readonly from: number; readonly to: number; readonly chunks: Chunk.Chunk<OutputChunk> } | undefined
}

/** Keeps the log from evicting what is at its position and after. */
export interface Pin {
  position: number
}

const smallRead = 4096
const maxSlab = 65_536

export class OutputLog {
  /** Where the next byte goes. */
  head = 0
  readonly written = { stdout: 0, stderr: 0 }
  readonly pins = new Set<Pin>()
  /** Everything before it is kept by a store as well; without a store that is no condition. */
  stored = Infinity
  /** Whether nothing more will come, and what readers then fail with, if anything. */
  ended = false
  failure: Option.Option<CoordinatorStopped> = Option.none()
  /** Before this position it takes whatever comes. */
  boundedFrom = 0

  private readonly views = { all: emptyView(), stdout: emptyView(), stderr: emptyView() }
  private readonly maxBytes: number
  private readonly maxPieces: number
  private readonly maxMerged: number
  private readonly budget: OutputBudget
  private slab = new Uint8Array(0)
  private slabUsed = 0

  constructor(maxBytes: number, budget: OutputBudget) {
    this.maxBytes = maxBytes
    // A piece costs memory too, however small: a log of single bytes must not take a hundred times its bound.
    this.maxPieces = 1024 + maxBytes / 128
    this.maxMerged = Math.min(maxSlab, maxBytes / 16)
    this.budget = budget
  }

  /** Takes bytes, which nobody else may write to any more. `false`: full, wait until `isFull` is not. */
  append(source: OutputSource, bytes: Uint8Array): boolean {
    if (bytes.length === 0) return true
    const last = this.views.all.pieces.at(-1)
    if (bytes.length >= smallRead) this.add(source, bytes, 0, bytes.length)
    else if (last !== undefined && this.canGrow(last, source, bytes.length)) this.grow(last, bytes)
    else {
      const start = this.copyToSlab(bytes)
      this.add(source, this.slab, start, bytes.length)
    }
    this.head += bytes.length
    this.written[source] += bytes.length
    this.views.all.size += bytes.length
    this.views[source].size += bytes.length
    this.budget.add(bytes.length)
    Telemetry.record(Telemetry.outputBytes, bytes.length)
    this.makeRoom()
    return !this.isFull
  }

  /** Whether a pin, or a store that is behind, keeps the log above its bound. */
  get isFull(): boolean {
    const first = this.views.all.pieces[this.views.all.evicted]
    return this.head >= this.boundedFrom && first !== undefined && this.isOver && end(first) > this.keptFrom()
  }

  /** Evicts what is above the bounds and may go. */
  makeRoom(): void {
    while (this.isAboveOwnBound && this.evictOldest());
    this.budget.makeRoom()
  }

  /** When the oldest piece came that may be evicted, or `Infinity`. */
  get oldestAge(): number {
    const { evicted, pieces } = this.views.all
    const first = pieces[evicted]
    return first === undefined || evicted === pieces.length - 1 || end(first) > this.keptFrom() ? Infinity : first.age
  }

  /** Evicts the oldest piece, if it may go. The newest piece always stays. */
  evictOldest(): boolean {
    if (this.oldestAge === Infinity) return false
    const piece = evictFirst(this.views.all)
    if (piece !== undefined) {
      evictFirst(this.views[piece.source])
      this.budget.remove(this, piece.length)
      Telemetry.record(Telemetry.evictedBytes, piece.length)
    }
    return piece !== undefined
  }

  /** The first byte that a pin keeps, or `Infinity`. */
  get pinned(): number {
    let first = Infinity
    for (const pin of this.pins) first = Math.min(first, pin.position)
    return first
  }

  /** Up to here, bytes of this selection are gone from memory. */
  start(selection: OutputSelection): number {
    return this.views[selection].start
  }

  /** How many bytes of this selection are kept. */
  size(selection: OutputSelection = "all"): number {
    return this.views[selection].size
  }

  get evictedBytes(): number {
    return this.head - this.size()
  }

  /** What is kept of a selection from one position up to another, the first chunk cut to begin there. */
  read(selection: OutputSelection, from: number, to = this.head): Chunk.Chunk<OutputChunk> {
    const view = this.views[selection]
    if (view.batch !== undefined && view.batch.from === from && view.batch.to === to) return view.batch.chunks
    const { pieces } = view
    const chunks: Array<OutputChunk> = []
    for (let i = indexOf(view, from); i < pieces.length; i++) {
      const piece = pieces[i] as Piece
      if (piece.offset >= to) break
      chunks.push(cut(chunkOf(piece), from, to))
    }
    view.batch = { from, to, chunks: Chunk.unsafeFromArray(chunks) }
    return view.batch.chunks
  }

  /** The position of the last `count` bytes of a selection, or of what is kept of them. */
  tail(selection: OutputSelection, count: number): number {
    const { evicted, pieces, start } = this.views[selection]
    let missing = count
    if (missing <= 0) return this.head
    for (let i = pieces.length - 1; i >= evicted; i--) {
      const piece = pieces[i] as Piece
      if (piece.length >= missing) return end(piece) - missing
      missing -= piece.length
    }
    return start
  }

  private get isAboveOwnBound(): boolean {
    const { evicted, pieces } = this.views.all
    return this.size() > this.maxBytes || pieces.length - evicted > this.maxPieces
  }

  private get isOver(): boolean {
    return this.isAboveOwnBound || this.budget.isOver
  }

  private keptFrom(): number {
    return Math.min(this.stored, this.pinned)
  }

  private add(source: OutputSource, storage: Uint8Array, start: number, length: number): void {
    const piece = { source, offset: this.head, age: this.budget.nextAge(), storage, start, length, chunk: undefined }
    this.views.all.pieces.push(piece)
    this.views[source].pieces.push(piece)
  }

  private canGrow(last: Piece, source: OutputSource, length: number): boolean {
    return last.source === source && last.storage === this.slab && this.slabUsed + length <= this.slab.length &&
      last.length + length <= this.maxMerged
  }

  private grow(last: Piece, bytes: Uint8Array): void {
    this.slab.set(bytes, this.slabUsed)
    this.slabUsed += bytes.length
    last.length += bytes.length
    last.chunk = undefined
  }

  /** Where in the slab the bytes are now. A new slab is twice as long as the last: a short log has a short one. */
  private copyToSlab(bytes: Uint8Array): number {
    if (this.slabUsed + bytes.length > this.slab.length) {
      this.slab = new Uint8Array(Math.min(maxSlab, Math.max(this.slab.length * 2, bytes.length)))
      this.slabUsed = 0
    }
    const start = this.slabUsed
    this.slab.set(bytes, start)
    this.slabUsed += bytes.length
    return start
  }
}

const emptyView = (): View => ({ pieces: [], evicted: 0, start: 0, size: 0, batch: undefined })

const end = (piece: Piece): number => piece.offset + piece.length

const chunkOf = (piece: Piece): OutputChunk =>
  piece.chunk ??= {
    source: piece.source,
    offset: piece.offset,
    bytes: piece.length === piece.storage.length
      ? piece.storage
      : piece.storage.subarray(piece.start, piece.start + piece.length)
  }

const cut = (chunk: OutputChunk, from: number, to: number): OutputChunk => {
  const { bytes, offset, source } = chunk
  const before = Math.max(0, from - offset)
  const after = Math.max(0, offset + bytes.length - to)
  return before === 0 && after === 0
    ? chunk
    : { source, offset: offset + before, bytes: bytes.subarray(before, bytes.length - after) }
}

/** The index of the first piece that reaches beyond a position. */
const indexOf = (view: View, position: number): number => {
  let low = view.evicted
  let high = view.pieces.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (end(view.pieces[middle] as Piece) > position) high = middle
    else low = middle + 1
  }
  return low
}

const evictFirst = (view: View): Piece | undefined => {
  const piece = view.pieces[view.evicted]
  if (piece === undefined) return undefined
  view.start = end(piece)
  view.size -= piece.length
  view.pieces[view.evicted++] = undefined
  view.batch = undefined
  // Cut off in bulk: to shift an array for each piece would cost its length each time.
  if (view.evicted > 1024 && view.evicted * 2 > view.pieces.length) {
    view.pieces.splice(0, view.evicted)
    view.evicted = 0
  }
  return piece
}
