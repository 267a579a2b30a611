/**
 * What becomes of a job, and those who wait for it. A `Deferred` would cost several times as much, time and memory.
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"

export class Outcome<A, E> {
  private exit: Exit.Exit<A, E> | undefined
  private readonly waiting = new Set<(exit: Exit.Exit<A, E>) => void>()

  get isSettled(): boolean {
    return this.exit !== undefined
  }

  settle(exit: Exit.Exit<A, E>): void {
    this.exit = exit
    for (const resume of this.waiting) resume(exit)
    this.waiting.clear()
  }

  readonly await: Effect.Effect<A, E> = Effect.async((resume) => {
    if (this.exit !== undefined) return resume(this.exit)
    this.waiting.add(resume)
    return Effect.sync(() => this.waiting.delete(resume))
  })
}
