/**
 * What happened to the jobs of a coordinator, kept only while somebody listens and only as far as they may lag behind.
 */
import * as Chunk from "effect/Chunk"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import { EventsMissed } from "../../JobError.ts"
import { type JobEvent, JobStarted } from "../../JobEvent.ts"
import type { JobInfo } from "../../JobInfo.ts"
import { WakeUps } from "../output/wakeUps.ts"

/** How many events a listener may be behind. */
export const maxBehind = 16_384

/** From how many kept events on it is worth looking which of them all listeners have had. */
const minKept = 256

export class EventLog {
  /** How many events there have been. */
  head = 0
  ended = false
  readonly wakeUps: WakeUps
  /** The last ones. */
  private readonly kept: Array<JobEvent> = []
  private readonly listeners = new Set<Listener>()
  private trimAt = minKept

  constructor(runtime: Runtime.Runtime<never>, clock: Clock.Clock) {
    this.wakeUps = new WakeUps(runtime, clock)
  }

  /** How many are kept. */
  get size(): number {
    return this.kept.length
  }

  listen(jobs: ReadonlyArray<JobInfo>): Listener {
    const listener = new Listener(this, jobs)
    this.listeners.add(listener)
    return listener
  }

  unlisten(listener: Listener): void {
    this.listeners.delete(listener)
    if (this.listeners.size === 0) this.kept.length = 0
  }

  /** Makes and keeps an event, if anybody listens. */
  publish(event: () => JobEvent): void {
    this.head++
    if (this.listeners.size === 0) return
    this.kept.push(event())
    if (this.kept.length >= this.trimAt) this.trim()
    this.wakeUps.announce()
  }

  end(): void {
    this.ended = true
    this.wakeUps.announce(true)
  }

  read(from: number): ReadonlyArray<JobEvent> {
    return this.kept.slice(this.kept.length - (this.head - from))
  }

  /** Forgets what all listeners have had, or may have missed. To look at each event would cost their number each time. */
  private trim(): void {
    let needed = this.head
    for (const { position } of this.listeners) needed = Math.min(needed, position)
    const count = Math.min(this.head - needed, maxBehind)
    this.kept.splice(0, this.kept.length - count)
    this.trimAt = Math.max(minKept, 2 * count)
  }
}

/** One who listens: first to the jobs as they were when it came, then to every event since. */
export class Listener {
  private readonly log: EventLog
  private jobs: ReadonlyArray<JobInfo>
  /** How many events it has had. */
  position: number
  private wait: Effect.Effect<void> = Effect.void

  constructor(log: EventLog, jobs: ReadonlyArray<JobInfo>) {
    this.log = log
    this.jobs = jobs
    this.position = log.head
  }

  /** Must come before the first `pull`. */
  get subscribe(): Effect.Effect<void, never, Scope.Scope> {
    return Effect.map(Effect.acquireRelease(this.log.wakeUps.listen, ({ close }) => close), ({ wait }) => {
      this.wait = wait
    })
  }

  readonly pull: Effect.Effect<Chunk.Chunk<JobEvent>, Option.Option<EventsMissed>> = Effect.suspend(() => {
    const { log, position } = this
    if (this.jobs.length > 0) {
      const jobs = this.jobs.map((info) => new JobStarted({ info }, { disableValidation: true }))
      this.jobs = []
      return Effect.succeed(Chunk.unsafeFromArray(jobs))
    }
    if (log.head - position > maxBehind) {
      return Effect.fail(Option.some(new EventsMissed({ missed: log.head - position })))
    }
    if (log.head > position) {
      this.position = log.head
      return Effect.succeed(Chunk.unsafeFromArray(log.read(position)))
    }
    return log.ended ? Effect.fail(Option.none()) : Effect.zipRight(this.wait, this.pull)
  })
}
