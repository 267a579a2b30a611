/**
 * The memory that all logs of a coordinator take together.
 *
 * Logs stand in a heap by the age of their oldest piece, so that to find the oldest of all costs the same however many
 * jobs there are. One that has nothing to give leaves it until it says that this may have changed.
 */

/** A log, as far as its memory is concerned. */
export interface Evictable {
  /** Bytes of memory. */
  readonly cost: number
  /** The age of its oldest piece; `Infinity` if there is none. */
  readonly age: number
  /** Evicts that piece; `false` if it may not go. */
  readonly evictOldest: () => boolean
}

interface Entry {
  readonly log: Evictable
  /** The age by which it stands in the heap; its oldest piece may have become younger. */
  age: number
  /** Its index in the heap; -1: not there. */
  place: number
}

export class OutputBudget {
  private readonly maxCost: number
  private readonly entries = new Map<Evictable, Entry>()
  private readonly heap: Array<Entry> = []
  private used = 0
  private ages = 0

  constructor(maxCost: number) {
    this.maxCost = maxCost
  }

  get isOver(): boolean {
    return this.used > this.maxCost
  }

  nextAge(): number {
    return this.ages++
  }

  open(log: Evictable): void {
    this.entries.set(log, { log, age: Infinity, place: -1 })
    this.used += log.cost
  }

  /** Forgets a log that nobody can read any more. */
  close(log: Evictable): void {
    const entry = this.entries.get(log)
    if (entry === undefined) return
    this.entries.delete(log)
    this.used -= log.cost
    if (entry.place >= 0) this.leave(entry)
  }

  /** A log costs so much more, or less. */
  spend(log: Evictable, cost: number): void {
    if (this.entries.has(log)) this.used += cost
  }

  /** Evicts the oldest pieces of all logs until the rest is within the bound, or nothing more may go. */
  makeRoom(changed: Evictable): void {
    const entry = this.entries.get(changed)
    if (entry !== undefined && entry.place < 0) this.enter(entry)
    while (this.isOver) {
      const oldest = this.heap[0]
      if (oldest === undefined) return
      const { age } = oldest.log
      if (age > oldest.age && age < Infinity) {
        oldest.age = age
        this.sink(oldest)
      } else if (!oldest.log.evictOldest()) this.leave(oldest)
    }
  }

  private enter(entry: Entry): void {
    entry.age = entry.log.age
    if (entry.age === Infinity) return
    this.put(entry, this.heap.length)
    this.rise(entry)
  }

  private leave(entry: Entry): void {
    const { place } = entry
    const last = this.heap.pop()
    entry.place = -1
    if (last === undefined || last === entry) return
    this.put(last, place)
    this.rise(last)
    this.sink(last)
  }

  private rise(entry: Entry): void {
    while (entry.place > 0) {
      const above = this.heap[(entry.place - 1) >>> 1]
      if (above === undefined || above.age <= entry.age) return
      this.swap(entry, above)
    }
  }

  private sink(entry: Entry): void {
    while (true) {
      const left = this.heap[entry.place * 2 + 1]
      const right = this.heap[entry.place * 2 + 2]
      const below = left !== undefined && right !== undefined && right.age < left.age ? right : left
      if (below === undefined || below.age >= entry.age) return
      this.swap(entry, below)
    }
  }

  private swap(a: Entry, b: Entry): void {
    const { place } = a
    this.put(a, b.place)
    this.put(b, place)
  }

  private put(entry: Entry, place: number): void {
    this.heap[place] = entry
    entry.place = place
  }
}
