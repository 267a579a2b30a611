/**
 * Tells subscribers that there is something new, through a `PubSub` that carries wake-ups alone.
 *
 * It is the number of wake-ups that costs, not that of bytes: one is published per turn of the event loop at most, after
 * all its reads, and none while the subscribers are likely still busy with the last one.
 */
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Queue from "effect/Queue"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"

/** The longest silence after a wake-up, in milliseconds. */
const maxSilence = 25

export interface WakeUps {
  /** How to wait for what is announced from now on: every run waits for one wake-up, which may be one too many. */
  readonly subscribe: Effect.Effect<Effect.Effect<void>, never, Scope.Scope>
  /** Wakes the subscribers soon; `atOnce`: in this turn of the event loop. */
  readonly announce: (atOnce?: boolean) => void
}

// A sliding buffer of 1 loses and repeats messages in Effect 3; 2 and more behave.
export const make: Effect.Effect<WakeUps> = Effect.gen(function*() {
  const pubsub = yield* PubSub.sliding<void>(2)
  const runtime = yield* Effect.runtime<never>()
  let subscribers = 0
  let scheduled = false
  let again = false
  let quietUntil = 0

  /** `unsafeOffer` does not slide: a single slow subscriber would keep the wake-up from all others. */
  const wake = () => {
    if (!pubsub.unsafeOffer(undefined)) Runtime.runFork(runtime)(PubSub.publish(pubsub, undefined))
  }

  const publish = () => {
    const started = performance.now()
    again = false
    wake()
    // Fibers that were woken run before the next turn: how long that takes is how long they are left in peace.
    setImmediate(() => {
      const now = performance.now()
      quietUntil = now + Math.min(maxSilence, now - started)
      scheduled = false
      if (again) schedule()
    })
  }

  const schedule = () => {
    scheduled = true
    const silence = quietUntil - performance.now()
    if (silence > 1) setTimeout(publish, silence)
    else setImmediate(publish)
  }

  return {
    subscribe: Effect.acquireRelease(
      Effect.sync(() => void subscribers++),
      () => Effect.sync(() => void subscribers--)
    ).pipe(Effect.zipRight(PubSub.subscribe(pubsub)), Effect.map(Queue.take)),
    announce: (atOnce = false) => {
      if (subscribers === 0) return
      if (atOnce) wake()
      else if (scheduled) again = true
      else schedule()
    }
  }
})
