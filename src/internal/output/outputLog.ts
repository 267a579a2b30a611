/**
 * The output of one job: an append-only log of chunks, read by position and evicted from its beginning.
 *
 * Positions are offsets in bytes, both sources together. Reads as they came from a pipe are kept as they are, because to
 * copy them costs more than half of reading them; small ones are copied together, because each would cost several times
 * its size.
 */
import type * as Chunk from "effect/Chunk"
import * as Option from "effect/Option"
import type { CoordinatorStopped } from "../../JobError.ts"
import type { OutputChunk, OutputSelection, OutputSource } from "../../Output.ts"
import * as Telemetry from "../telemetry/telemetry.ts"
import type { Evictable, OutputBudget } from "./outputBudget.ts"
import { Piece } from "./piece.ts"
import { type Batch, View } from "./view.ts"

/** Keeps the log from evicting what is at its position and after. */
export interface Pin {
  position: number
}

const smallRead = 4096
const maxSlab = 65_536

/** Reads that come within so many milliseconds share their time. */
const sameTime = 10

/** What small pieces may cost besides the bytes that the bound allows. */
const maxCost = (maxBytes: number): number => maxBytes * 1.25 + 256 * 1024

export class OutputLog implements Evictable {
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
  /** Bytes of memory that its pieces cost. */
  cost = 0
  /** When something came last, in milliseconds. */
  latest = -Infinity

  private readonly views = { all: new View(), stdout: new View(), stderr: new View() }
  private readonly maxBytes: number
  private readonly maxMerged: number
  private readonly budget: OutputBudget
  private readonly now: () => number
  private slab = new Uint8Array(0)
  private slabUsed = 0

  /** `now` gives the time in milliseconds. */
  constructor(maxBytes: number, budget: OutputBudget, now: () => number = Date.now) {
    this.maxBytes = maxBytes
    this.maxMerged = Math.min(maxSlab, maxBytes / 16)
    this.budget = budget
    this.now = now
  }

  /** Takes bytes, which nobody else may write to any more. `false`: full, wait until `isFull` is not. */
  append(source: OutputSource, bytes: Uint8Array): boolean {
    if (bytes.length === 0) return true
    this.tellTime()
    const { last } = this.views.all
    if (bytes.length >= smallRead) this.add(source, withoutRoom(bytes), 0, bytes.length)
    else if (last !== undefined && this.canGrow(last, source, bytes.length)) this.grow(last, bytes)
    else {
      const start = this.copyToSlab(bytes)
      this.add(source, this.slab, start, bytes.length)
    }
    this.head += bytes.length
    this.written[source] += bytes.length
    this.views.all.size += bytes.length
    this.views[source].size += bytes.length
    Telemetry.record(Telemetry.outputBytes, bytes.length)
    this.makeRoom()
    return !this.isFull
  }

  /** Whether a pin, or a store that is behind, keeps the log above its bound. */
  get isFull(): boolean {
    const { first } = this.views.all
    return this.head >= this.boundedFrom && first !== undefined && this.isOver && first.end > this.keptFrom()
  }

  /** Evicts what is above the bounds and may go. */
  makeRoom(): void {
    while (this.isAboveOwnBound && this.evictOldest());
    this.budget.makeRoom(this)
  }

  /** When its oldest piece came, or `Infinity`. */
  get age(): number {
    return this.views.all.first?.age ?? Infinity
  }

  /** Evicts the oldest piece, if it may go. The newest piece always stays. */
  evictOldest(): boolean {
    const { all } = this.views
    const { first } = all
    if (first === undefined || first === all.last || first.end > this.keptFrom()) return false
    all.evictFirst()
    this.views[first.source].evictFirst()
    this.spend(-first.cost)
    Telemetry.record(Telemetry.evictedBytes, first.length)
    return true
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
    return this.views[selection].read(from, to)
  }

  /** The first of that, as much as a reader gets at once; the same for all who ask for the same. */
  batch(selection: OutputSelection, from: number, to = this.head): Batch {
    return this.views[selection].batch(from, to)
  }

  /** The position of the last `count` bytes of a selection, or of what is kept of them. */
  tail(selection: OutputSelection, count: number): number {
    return count <= 0 ? this.head : this.views[selection].tail(count)
  }

  private get isAboveOwnBound(): boolean {
    return this.size() > this.maxBytes || this.cost > maxCost(this.maxBytes)
  }

  private get isOver(): boolean {
    return this.isAboveOwnBound || this.budget.isOver
  }

  private keptFrom(): number {
    return Math.min(this.stored, this.pinned)
  }

  /** A clock that was put back tells a new time too. */
  private tellTime(): void {
    const now = this.now()
    if (now - this.latest >= sameTime || now < this.latest) this.latest = now
  }

  private add(source: OutputSource, storage: Uint8Array, start: number, length: number): void {
    const piece = new Piece(source, this.head, this.budget.nextAge(), this.latest, storage, start, length)
    this.views.all.push(piece)
    this.views[source].push(piece)
    this.spend(piece.cost)
  }

  private canGrow(last: Piece, source: OutputSource, length: number): boolean {
    return last.source === source && this.slabUsed + length <= this.slab.length &&
      last.length + length <= this.maxMerged && last.isFollowedBy(this.slab, this.latest)
  }

  private grow(last: Piece, bytes: Uint8Array): void {
    const { cost } = last
    this.slab.set(bytes, this.slabUsed)
    this.slabUsed += bytes.length
    last.grow(bytes.length, this.latest)
    this.spend(last.cost - cost)
  }

  private spend(cost: number): void {
    this.cost += cost
    this.budget.spend(this, cost)
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

/** Bytes in a much larger buffer would keep all of it. */
const withoutRoom = (bytes: Uint8Array): Uint8Array =>
  bytes.buffer.byteLength > bytes.length * 2 ? new Uint8Array(bytes) : bytes
