/**
 * Who reads the output of a job, and how many may.
 */
import * as Exit from "effect/Exit"
import type { Settings } from "../../JobConfig.ts"
import { SubscriberLimitReached } from "../../JobError.ts"
import type { Share } from "../telemetry/telemetry.ts"
import type { OutputLog } from "./outputLog.ts"
import type { Subscription } from "./subscription.ts"

export class Subscribers {
  private readonly log: OutputLog
  private readonly limits: Pick<Settings, "maxSubscribers" | "maxSubscribersPerJob">
  private readonly total: Share
  private readonly subscriptions = new Set<Subscription>()

  constructor(log: OutputLog, limits: Pick<Settings, "maxSubscribers" | "maxSubscribersPerJob">, total: Share) {
    this.log = log
    this.limits = limits
    this.total = total
  }

  get size(): number {
    return this.subscriptions.size
  }

  /** Lets a subscription take its place in the log, unless there are too many. */
  admit(subscription: Subscription): Exit.Exit<void, SubscriberLimitReached> {
    const { maxSubscribers, maxSubscribersPerJob } = this.limits
    if (this.size >= maxSubscribersPerJob) return refuse(maxSubscribersPerJob, "job")
    if (this.total.value >= maxSubscribers) return refuse(maxSubscribers, "total")
    subscription.begin()
    this.subscriptions.add(subscription)
    this.total.add(1)
    if (subscription.pins) this.log.pins.add(subscription)
    return Exit.void
  }

  /** Forgets a subscription, whether it was let in or not. */
  dismiss(subscription: Subscription): void {
    if (!this.subscriptions.delete(subscription)) return
    this.total.add(-1)
    this.log.pins.delete(subscription)
  }
}

const refuse = (limit: number, scope: "job" | "total") =>
  Exit.fail(new SubscriberLimitReached({ limit, scope }, { disableValidation: true }))
