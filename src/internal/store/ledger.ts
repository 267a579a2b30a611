/**
 * The segments of all jobs, from the oldest to the newest, and how many bytes they have together. What is asked of it
 * costs the same however many they are.
 */

interface Entry<Owner> {
  readonly owner: Owner
  bytes: number
  previous: Entry<Owner> | undefined
  next: Entry<Owner> | undefined
}

export class Ledger<Owner> {
  /** Bytes of all segments. */
  size = 0
  private readonly entries = new Map<object, Entry<Owner>>()
  private first: Entry<Owner> | undefined
  private last: Entry<Owner> | undefined

  /** A segment has so many bytes more; the first time it becomes the newest. */
  add(segment: object, owner: Owner, bytes: number): void {
    const entry = this.entries.get(segment) ?? this.enter(segment, owner)
    entry.bytes += bytes
    this.size += bytes
  }

  /** A segment has left. */
  delete(segment: object): void {
    const entry = this.entries.get(segment)
    if (entry === undefined) return
    this.entries.delete(segment)
    this.size -= entry.bytes
    if (entry.previous === undefined) this.first = entry.next
    else entry.previous.next = entry.next
    if (entry.next === undefined) this.last = entry.previous
    else entry.next.previous = entry.previous
  }

  /** Who has the oldest segment among those who satisfy a condition; it is asked once for each older segment. */
  oldest(condition: (owner: Owner) => boolean): Owner | undefined {
    for (let entry = this.first; entry !== undefined; entry = entry.next) if (condition(entry.owner)) return entry.owner
    return undefined
  }

  private enter(segment: object, owner: Owner): Entry<Owner> {
    const entry: Entry<Owner> = { owner, bytes: 0, previous: this.last, next: undefined }
    if (this.last === undefined) this.first = entry
    else this.last.next = entry
    this.last = entry
    this.entries.set(segment, entry)
    return entry
  }
}
