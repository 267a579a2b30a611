/**
 * The actor that owns the output of one job: its log, and who reads it.
 *
 * Bytes do not pass through its mailbox: the spawner pushes them into `write`, which appends them to the log.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import type { Settings } from "../JobConfig.ts"
import { CoordinatorStopped, SubscriberLimitReached } from "../JobError.ts"
import type { JobId } from "../JobId.ts"
import type { Options, OutputSource } from "../Output.ts"
import * as Actor from "./actor.ts"
import type { OutputBudget } from "./outputBudget.ts"
import { OutputLog } from "./outputLog.ts"
import { Subscription } from "./subscription.ts"
import * as WakeUps from "./wakeUps.ts"

export interface Broadcaster {
  readonly log: OutputLog
  /** Takes what was read from a pipe; `false`: read no more until the pipes are resumed. */
  readonly write: (source: OutputSource, bytes: Uint8Array) => boolean
  /** How to go on with the pipes after `write` answered `false`. */
  readonly connect: (resume: Effect.Effect<void>) => void
  /** Nothing of the job is alive: from now on everything is taken, whatever its readers do. */
  readonly drain: () => void
  /** Nothing more will come: the job has ended, or its coordinator has given it up (`failure`). */
  readonly end: (failure: Option.Option<CoordinatorStopped>) => void
  /** The job has left the table: its log goes with its last reader. */
  readonly remove: () => void
  readonly subscribe: (
    options: Options
  ) => Effect.Effect<Subscription, SubscriberLimitReached | CoordinatorStopped, Scope.Scope>
}

/** How many subscribers all jobs together have. */
export interface SubscriberCount {
  total: number
}

type Message =
  | {
    readonly _tag: "Subscribe"
    readonly options: Options
    readonly reply: Actor.Reply<Subscription, SubscriberLimitReached>
  }
  | { readonly _tag: "Unsubscribe"; readonly subscription: Subscription }
  | { readonly _tag: "Advanced" }
  | { readonly _tag: "Drain" }
  | { readonly _tag: "End"; readonly failure: Option.Option<CoordinatorStopped> }
  | { readonly _tag: "Remove" }

export const make = (options: {
  readonly id: JobId
  readonly maxBytes: number
  readonly config: Settings
  readonly budget: OutputBudget
  readonly count: SubscriberCount
  readonly runtime: Runtime.Runtime<never>
}): Effect.Effect<Broadcaster> =>
  Effect.gen(function*() {
    const { budget, config, count, id } = options
    const log = new OutputLog(options.maxBytes, budget)
    const wakeUps = yield* WakeUps.make
    const subscriptions = new Set<Subscription>()
    let resume: Effect.Effect<void> = Effect.void
    let paused = false
    let removed = false
    budget.open(log)

    const receive = (message: Message): Effect.Effect<void> => {
      switch (message._tag) {
        case "Subscribe":
          return Effect.sync(() => message.reply(admit(message.options)))
        case "Unsubscribe":
          dismiss(message.subscription)
          return goOn()
        case "Advanced":
          return goOn()
        case "Drain":
          log.unbounded = true
          return goOn()
        case "End":
          log.ended = true
          log.failure = message.failure
          wakeUps.announce(true)
          return Effect.void
        case "Remove":
          removed = true
          forget()
          return Effect.void
      }
    }

    const actor = yield* Actor.make<Message, CoordinatorStopped>({
      capacity: config.mailboxCapacity,
      runtime: options.runtime,
      stopped: () => new CoordinatorStopped(),
      receive
    })

    const admit = (wanted: Options): Exit.Exit<Subscription, SubscriberLimitReached> => {
      if (subscriptions.size >= config.maxSubscribersPerJob) {
        return Exit.fail(new SubscriberLimitReached({ limit: config.maxSubscribersPerJob, scope: "job" }))
      }
      if (count.total >= config.maxSubscribers) {
        return Exit.fail(new SubscriberLimitReached({ limit: config.maxSubscribers, scope: "total" }))
      }
      const subscription = new Subscription(id, log, wanted, () => actor.notify({ _tag: "Advanced" }))
      subscriptions.add(subscription)
      count.total++
      if (subscription.pins) log.pins.add(subscription)
      return Exit.succeed(subscription)
    }

    const dismiss = (subscription: Subscription): void => {
      if (!subscriptions.delete(subscription)) return
      count.total--
      log.pins.delete(subscription)
      forget()
    }

    const forget = (): void => {
      if (removed && subscriptions.size === 0) budget.close(log)
    }

    /** Lets the pipes flow again if what kept the log full has moved on. */
    const goOn = (): Effect.Effect<void> => {
      log.makeRoom()
      if (!paused || log.isFull) return Effect.void
      paused = false
      return resume
    }

    return {
      log,
      write: (source, bytes) => {
        const hasRoom = log.append(source, bytes)
        if (!hasRoom) paused = true
        wakeUps.announce()
        return hasRoom
      },
      connect: (how) => {
        resume = how
      },
      drain: () => actor.notify({ _tag: "Drain" }),
      end: (failure) => actor.notify({ _tag: "End", failure }),
      remove: () => actor.notify({ _tag: "Remove" }),
      subscribe: (wanted) =>
        Effect.acquireRelease(
          actor.ask<Subscription, SubscriberLimitReached>((reply) => ({ _tag: "Subscribe", options: wanted, reply })),
          (subscription) => Effect.sync(() => actor.notify({ _tag: "Unsubscribe", subscription }))
        ).pipe(Effect.tap((subscription) =>
          log.ended ? Effect.void : Effect.map(wakeUps.subscribe, (queue) => {
            subscription.wait = Queue.take(queue)
          })
        ))
    }
  })
