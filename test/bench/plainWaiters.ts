/**
 * In the place of `PubSub` and `Queue` in `internal/output/wakeUps.ts`: as much of them as is used there, made of callbacks. What
 * the real ones cost shows in the difference.
 */
import * as Effect from "effect/Effect"
import { constVoid } from "effect/Function"
import type * as Scope from "effect/Scope"

interface Waiter {
  pending: boolean
  wake: () => void
}

class Waiters {
  readonly all = new Set<Waiter>()

  unsafeOffer(): boolean {
    for (const waiter of this.all) {
      waiter.pending = true
      waiter.wake()
    }
    return true
  }
}

export const sliding = (): Effect.Effect<Waiters> => Effect.sync(() => new Waiters())

export const publish = (waiters: Waiters): Effect.Effect<boolean> => Effect.sync(() => waiters.unsafeOffer())

export const subscribe = ({ all }: Waiters): Effect.Effect<Waiter, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const waiter = { pending: false, wake: constVoid }
      all.add(waiter)
      return waiter
    }),
    (waiter) => Effect.sync(() => void all.delete(waiter))
  )

export const take = (waiter: Waiter): Effect.Effect<void> =>
  Effect.async((resume) => {
    const go = () => {
      waiter.pending = false
      waiter.wake = constVoid
      resume(Effect.void)
    }
    if (waiter.pending) go()
    else waiter.wake = go
  })
