/**
 * The pipe to a simulated program's standard input: bytes that were written and not read yet.
 */
import * as Effect from "effect/Effect"

/** As much as a pipe holds on Linux. */
const capacity = 64 * 1024

export class SimulatedInput {
  /** When it last changed, in milliseconds of the clock. */
  changedAt: number
  private unread: Array<Uint8Array> = []
  private size = 0
  private hasWriter: boolean
  private hasReader = true
  private readonly writers = new Set<(taken: boolean) => void>()

  constructor(hasWriter: boolean, now: number) {
    this.hasWriter = hasWriter
    this.changedAt = now
  }

  /** Whether it makes sense to write. */
  get isOpen(): boolean {
    return this.hasWriter && this.hasReader
  }

  get hasRoom(): boolean {
    return this.size < capacity
  }

  get isEmpty(): boolean {
    return this.size === 0
  }

  /** Whether everything was read and no more will come. */
  get isAtEnd(): boolean {
    return !this.hasWriter && this.isEmpty
  }

  write(bytes: Uint8Array, now: number): void {
    if (bytes.length === 0) return
    this.unread.push(bytes.slice())
    this.size += bytes.length
    this.changedAt = now
  }

  /** Waits until there is room for more; `false`: there is no reader any more. */
  get room(): Effect.Effect<boolean> {
    return Effect.async((resume) => {
      if (this.hasRoom) return resume(Effect.succeed(true))
      const writer = (taken: boolean) => resume(Effect.succeed(taken))
      this.writers.add(writer)
      return Effect.sync(() => this.writers.delete(writer))
    })
  }

  /** Takes all there is. */
  read(): ReadonlyArray<Uint8Array> {
    const bytes = this.unread
    this.empty(true)
    return bytes
  }

  /** No more is written. */
  end(now: number): void {
    if (!this.hasWriter) return
    this.hasWriter = false
    this.changedAt = now
  }

  /** Nobody reads any more. */
  close(): void {
    if (!this.hasReader) return
    this.hasReader = false
    this.empty(false)
  }

  private empty(taken: boolean): void {
    this.unread = []
    this.size = 0
    for (const writer of this.writers) writer(taken)
    this.writers.clear()
  }
}
