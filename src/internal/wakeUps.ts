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

export class WakeUps {
  private readonly runtime: Runtime.Runtime<never>
  private pubsub: PubSub.PubSub<void> | undefined
  private subscribers = 0
  private scheduled = false
  private again = false
  private quietUntil = 0

  constructor(runtime: Runtime.Runtime<never>) {
    this.runtime = runtime
  }

  /** How to wait for what is announced from now on: every run waits for one wake-up, which may be one too many. */
  get subscribe(): Effect.Effect<Effect.Effect<void>, never, Scope.Scope> {
    return Effect.acquireRelease(
      Effect.sync(() => void this.subscribers++),
      () => Effect.sync(() => void this.subscribers--)
    ).pipe(Effect.zipRight(this.open), Effect.flatMap(PubSub.subscribe), Effect.map(Queue.take))
  }

  /** Wakes the subscribers soon; `atOnce`: in this turn of the event loop. */
  announce(atOnce = false): void {
    if (this.subscribers === 0) return
    if (atOnce) this.wake()
    else if (this.scheduled) this.again = true
    else this.schedule()
  }

  /** Made for the first subscriber. A sliding buffer of 1 loses and repeats messages in Effect 3; 2 and more behave. */
  private get open(): Effect.Effect<PubSub.PubSub<void>> {
    return this.pubsub === undefined
      ? Effect.map(PubSub.sliding<void>(2), (pubsub) => this.pubsub ??= pubsub)
      : Effect.succeed(this.pubsub)
  }

  /** `unsafeOffer` does not slide: a single slow subscriber would keep the wake-up from all others. */
  private wake(): void {
    const { pubsub } = this
    if (pubsub === undefined || pubsub.unsafeOffer(undefined)) return
    Runtime.runFork(this.runtime)(PubSub.publish(pubsub, undefined))
  }

  private schedule(): void {
    this.scheduled = true
    const silence = this.quietUntil - performance.now()
    if (silence > 1) setTimeout(() => this.publish(), silence)
    else setImmediate(() => this.publish())
  }

  private publish(): void {
    const started = performance.now()
    this.again = false
    this.wake()
    // Fibers that were woken run before the next turn: how long that takes is how long they are left in peace.
    setImmediate(() => {
      const now = performance.now()
      this.quietUntil = now + Math.min(maxSilence, now - started)
      this.scheduled = false
      if (this.again) this.schedule()
    })
  }
}
