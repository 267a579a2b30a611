/**
 * Tells listeners that there is something new, through a `PubSub` that carries wake-ups alone.
 *
 * It is the number of wake-ups that costs, not that of bytes: one is published per turn of the event loop at most, after
 * all its reads, and none while the listeners are likely still busy with the last one. How long that is, the `Clock`
 * tells: under one that stands still, listeners are woken in the next turn.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as PubSub from "effect/PubSub"
import * as Queue from "effect/Queue"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"

/** One who waits for wake-ups. */
export interface Listener {
  /** Waits for what is announced from now on: every run waits for one wake-up, which may be one too many. */
  readonly wait: Effect.Effect<void>
  readonly close: Effect.Effect<void>
}

/** How long the silence after a wake-up is, in times of what the wake-up took; and at most, in milliseconds. */
const silencePerWakeUp = 4
const maxSilence = 25

export class WakeUps {
  private readonly runtime: Runtime.Runtime<never>
  private readonly clock: Clock.Clock
  private pubsub: PubSub.PubSub<void> | undefined
  private listeners = 0
  private scheduled = false
  private again = false
  private quietUntil = 0

  constructor(runtime: Runtime.Runtime<never>, clock: Clock.Clock) {
    this.runtime = runtime
    this.clock = clock
  }

  get listen(): Effect.Effect<Listener> {
    return Effect.uninterruptible(Effect.gen(this, function*() {
      const scope = yield* Scope.make()
      const wakeUps = yield* Scope.extend(PubSub.subscribe(yield* this.open), scope)
      this.listeners++
      return {
        wait: Queue.take(wakeUps),
        close: Effect.suspend(() => {
          this.listeners--
          return Scope.close(scope, Exit.void)
        })
      }
    }))
  }

  /** Wakes the listeners soon; `atOnce`: in this turn of the event loop. */
  announce(atOnce = false): void {
    if (this.listeners === 0) return
    if (atOnce) this.wake()
    else if (this.scheduled) this.again = true
    else this.schedule()
  }

  /** Made for the first listener. A sliding buffer of 1 loses and repeats messages in Effect 3; 2 and more behave. */
  private get open(): Effect.Effect<PubSub.PubSub<void>> {
    return this.pubsub === undefined
      ? Effect.map(PubSub.sliding<void>(2), (pubsub) => this.pubsub ??= pubsub)
      : Effect.succeed(this.pubsub)
  }

  /** `unsafeOffer` does not slide: a single slow listener would keep the wake-up from all others. */
  private wake(): void {
    const { pubsub } = this
    if (pubsub === undefined || pubsub.unsafeOffer(undefined)) return
    Runtime.runFork(this.runtime)(PubSub.publish(pubsub, undefined))
  }

  /** In milliseconds; of the clock's times this is the exact one, which never jumps. */
  private get now(): number {
    return Number(this.clock.unsafeCurrentTimeNanos()) / 1e6
  }

  private schedule(): void {
    this.scheduled = true
    const silence = this.quietUntil - this.now
    if (silence > 1) setTimeout(() => this.publish(), silence)
    else setImmediate(() => this.publish())
  }

  private publish(): void {
    const started = this.now
    this.again = false
    this.wake()
    // Fibers that were woken run before the next turn: what that takes tells how long they are to be left in peace.
    setImmediate(() => {
      const { now } = this
      this.quietUntil = now + Math.min(maxSilence, silencePerWakeUp * (now - started))
      this.scheduled = false
      if (this.again) this.schedule()
    })
  }
}
