/**
 * How long ended jobs stay: for a time, and only so many of them, the oldest leaving first.
 */
import * as Duration from "effect/Duration"
import type { Settings } from "../../JobConfig.ts"
import type { Worker } from "./worker.ts"

export class Retention {
  /** Ended jobs, in the order of their ends. */
  private readonly ended = new Set<Worker>()
  private readonly maxEnded: number
  private readonly timeToLive: number

  constructor(settings: Settings["retention"]) {
    this.maxEnded = settings.maxEnded
    this.timeToLive = Duration.toMillis(settings.timeToLive)
  }

  add(worker: Worker): void {
    this.ended.add(worker)
  }

  delete(worker: Worker): void {
    this.ended.delete(worker)
  }

  /** Takes out the jobs whose time, at `now`, is over, and those that are too many. */
  takeExpired(now: number): ReadonlyArray<Worker> {
    const expired: Array<Worker> = []
    for (const worker of this.ended) {
      if (this.ended.size <= this.maxEnded && this.expiry(worker) > now) break
      this.ended.delete(worker)
      expired.push(worker)
    }
    return expired
  }

  /** When the next job's time is over; `Infinity` if none will be. */
  get nextExpiry(): number {
    for (const worker of this.ended) return this.expiry(worker)
    return Infinity
  }

  private expiry(worker: Worker): number {
    return (worker.state.endedAt ?? Infinity) + this.timeToLive
  }
}
