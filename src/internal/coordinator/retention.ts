/**
 * How long ended jobs stay: for a time, and only so many of them, the oldest leaving first.
 */
import * as Duration from "effect/Duration"
import type { Settings } from "../../JobConfig.ts"

export class Retention<Job> {
  /** Ended jobs, and when their time is over, in the order of their ends. */
  private readonly ended = new Map<Job, number>()
  private readonly maxEnded: number
  private readonly timeToLive: number

  constructor(settings: Settings["retention"]) {
    this.maxEnded = settings.maxEnded
    this.timeToLive = Duration.toMillis(settings.timeToLive)
  }

  /** Times are milliseconds on a clock that never jumps. */
  add(job: Job, now: number): void {
    this.ended.set(job, now + this.timeToLive)
  }

  delete(job: Job): void {
    this.ended.delete(job)
  }

  /** Takes out the jobs whose time, at `now`, is over, and those that are too many. */
  takeExpired(now: number): ReadonlyArray<Job> {
    const expired: Array<Job> = []
    for (const [job, expiry] of this.ended) {
      if (this.ended.size <= this.maxEnded && expiry > now) break
      this.ended.delete(job)
      expired.push(job)
    }
    return expired
  }

  /** When the next job's time is over; `Infinity` if none will be. */
  get nextExpiry(): number {
    for (const expiry of this.ended.values()) return expiry
    return Infinity
  }
}
