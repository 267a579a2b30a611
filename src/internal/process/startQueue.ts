/**
 * Whose turn it is to start a process, which blocks the event loop: everybody else must get a turn of it in between.
 */
import * as Effect from "effect/Effect"

/** How long starts may follow each other within a turn of the event loop, in milliseconds. */
const perTurn = 5

export class StartQueue {
  private readonly waiting = new Set<() => void>()
  private readonly isReady: () => boolean
  private spent = 0
  private nextTurn: NodeJS.Immediate | undefined

  /** `isReady` says whether anybody could start now; `wake` has to be called when it may have become true. */
  constructor(isReady: () => boolean) {
    this.isReady = isReady
  }

  /** Waits until all who came before have had their turn, and the event loop has had its own. */
  readonly turn: Effect.Effect<void> = Effect.suspend(() =>
    this.waiting.size === 0 && this.isOpen ? Effect.void : this.wait
  )

  /** To be called after a start, with the milliseconds that it took. */
  spend(time: number): void {
    this.spent += time
    this.nextTurn ??= setImmediate(() => this.begin())
    this.wake()
  }

  wake(): void {
    const [first] = this.waiting
    if (first === undefined || !this.isOpen) return
    first()
    // It may have been interrupted before it starts: the others do not depend on it.
    if (this.waiting.size > 0) this.nextTurn ??= setImmediate(() => this.begin())
  }

  private readonly wait: Effect.Effect<void> = Effect.async((resume) => {
    const go = () => {
      this.waiting.delete(go)
      resume(Effect.void)
    }
    this.waiting.add(go)
    this.nextTurn ??= setImmediate(() => this.begin())
    return Effect.sync(() => this.waiting.delete(go))
  })

  private get isOpen(): boolean {
    return this.spent < perTurn && this.isReady()
  }

  private begin(): void {
    this.nextTurn = undefined
    this.spent = 0
    this.wake()
  }
}
