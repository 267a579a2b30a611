/**
 * The actor that owns the output of one job: its log, and who reads it.
 *
 * Bytes do not pass through its mailbox: the spawner pushes them into `write`, which appends them to the log.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Runtime from "effect/Runtime"
import type { Settings } from "../../JobConfig.ts"
import { CoordinatorStopped, SubscriberLimitReached } from "../../JobError.ts"
import type { JobId } from "../../JobId.ts"
import type { OutputSource } from "../../Output.ts"
import type { OutputStore } from "../../OutputStore.ts"
import { Actor, type Reply } from "../actor/actor.ts"
import * as Telemetry from "../telemetry/telemetry.ts"
import { Archive } from "./archive.ts"
import type { OutputBudget } from "./outputBudget.ts"
import { OutputLog } from "./outputLog.ts"
import type { Source, Subscription } from "./subscription.ts"
import { WakeUps } from "./wakeUps.ts"

export interface Broadcaster extends Source {
  /** Takes what was read from a pipe; `false`: read no more until the pipes are resumed. */
  readonly write: (source: OutputSource, bytes: Uint8Array) => boolean
  /** Tells how to read on after `write` answered `false`, and whom to tell that the store is full. */
  readonly connect: (resume: Effect.Effect<void>, onStoreFull: () => void) => void
  /** Nothing of the job is alive: what is left in its pipes is taken, whatever its readers do. */
  readonly drain: () => void
  /** Nothing more will come: the job has ended, or its coordinator has given it up (`failure`). */
  readonly end: (failure: Option.Option<CoordinatorStopped>) => void
  /** The job has left the table: its log goes with its last reader. */
  readonly remove: () => void
}

/** How many subscribers all jobs together have. */
export interface SubscriberCount {
  total: number
}

type Message =
  | {
    readonly _tag: "Subscribe"
    readonly subscription: Subscription
    readonly reply: Reply<void, SubscriberLimitReached>
  }
  | { readonly _tag: "Unsubscribe"; readonly subscription: Subscription }
  | { readonly _tag: "Advanced" }
  | { readonly _tag: "Stored"; readonly position: number }
  | { readonly _tag: "Drain" }
  | { readonly _tag: "End"; readonly failure: Option.Option<CoordinatorStopped> }
  | { readonly _tag: "Remove" }

export const make = (options: {
  readonly id: JobId
  /** How much of the output its spec wants to be kept. */
  readonly maxBytes: number | undefined
  readonly config: Settings
  readonly store: OutputStore["Type"]
  readonly budget: OutputBudget
  readonly count: SubscriberCount
  readonly runtime: Runtime.Runtime<never>
  readonly clock: Clock.Clock
  /** Runs what writes to the store. */
  readonly fork: (effect: Effect.Effect<void>) => void
}): Broadcaster => {
  const { budget, config, count, id, store } = options
  const window = windowOf(store, options.maxBytes)
  const log = new OutputLog(window, budget, () => options.clock.unsafeCurrentTimeMillis())
  const wakeUps = new WakeUps(options.runtime, options.clock)
  const subscriptions = new Set<Subscription>()
  let resume: Effect.Effect<void> = Effect.void
  let onStoreFull = () => {}
  let storeIsFull = false
  let unannounced = 0
  let paused = false
  let removed = false
  budget.open(log)

  const receive = (message: Message): Effect.Effect<void> | void => {
    switch (message._tag) {
      case "Subscribe":
        return message.reply(admit(message.subscription))
      case "Unsubscribe":
        dismiss(message.subscription)
        return goOn()
      case "Advanced":
        return goOn()
      case "Stored":
        log.stored = message.position
        return goOn()
      case "Drain":
        log.boundedFrom = log.head + maxLeftInPipes
        return goOn()
      case "End":
        log.ended = true
        log.failure = message.failure
        return wakeUps.announce(true)
      case "Remove":
        removed = true
        return forget()
    }
  }

  const actor = new Actor<Message, CoordinatorStopped>({
    capacity: config.mailboxCapacity,
    runtime: options.runtime,
    stopped: () => new CoordinatorStopped(),
    receive
  })

  const archive = Option.getOrUndefined(Option.map(store.open, (open) => {
    log.stored = 0
    return new Archive({
      log,
      open: open(id, Option.fromNullable(options.maxBytes), () => log.pinned),
      fork: options.fork,
      onStored: (position) => actor.notify({ _tag: "Stored", position }),
      onStopped: (reason) => {
        // From now on memory is all there is, and waits for nobody.
        actor.notify({ _tag: "Stored", position: Infinity })
        if (Option.isSome(reason)) return
        storeIsFull = true
        onStoreFull()
      }
    })
  }))

  const admit = (subscription: Subscription): Exit.Exit<void, SubscriberLimitReached> => {
    if (subscriptions.size >= config.maxSubscribersPerJob) {
      return Exit.fail(
        new SubscriberLimitReached({ limit: config.maxSubscribersPerJob, scope: "job" }, { disableValidation: true })
      )
    }
    if (count.total >= config.maxSubscribers) {
      return Exit.fail(
        new SubscriberLimitReached({ limit: config.maxSubscribers, scope: "total" }, { disableValidation: true })
      )
    }
    subscription.begin()
    subscriptions.add(subscription)
    Telemetry.record(Telemetry.subscribers, ++count.total)
    if (subscription.pins) log.pins.add(subscription)
    return Exit.void
  }

  const dismiss = (subscription: Subscription): void => {
    if (!subscriptions.delete(subscription)) return
    Telemetry.record(Telemetry.subscribers, --count.total)
    log.pins.delete(subscription)
    forget()
  }

  /** Readers are woken when it is cheap, but before much of what they have not had would have to go. */
  const announce = (bytes: number): void => {
    unannounced += bytes
    const isUrgent = unannounced > window / 4
    if (isUrgent) unannounced = 0
    wakeUps.announce(isUrgent)
  }

  const forget = (): void => {
    if (!removed || subscriptions.size > 0) return
    budget.close(log)
    archive?.remove()
  }

  /** Lets the pipes flow again if what kept the log full has moved on. */
  const goOn = (): Effect.Effect<void> | void => {
    log.makeRoom()
    if (!paused || log.isFull) return
    paused = false
    return resume
  }

  return {
    id,
    log,
    archive,
    wakeUps,
    write: (source, bytes) => {
      const hasRoom = log.append(source, bytes)
      if (!hasRoom) paused = true
      announce(bytes.length)
      archive?.advance()
      return hasRoom
    },
    connect: (resumeOutput, whenStoreIsFull) => {
      resume = resumeOutput
      onStoreFull = whenStoreIsFull
      if (storeIsFull) onStoreFull()
    },
    drain: () => actor.notify({ _tag: "Drain" }),
    end: (failure) => actor.notify({ _tag: "End", failure }),
    remove: () => actor.notify({ _tag: "Remove" }),
    admit: (subscription) => actor.ask((reply) => ({ _tag: "Subscribe", subscription, reply })),
    advanced: () => actor.notify({ _tag: "Advanced" }),
    dismiss: (subscription) => actor.notify({ _tag: "Unsubscribe", subscription })
  }
}

/** Far more than pipes hold, in bytes; what has escaped from a job could write for ever. */
const maxLeftInPipes = 16 * 1024 * 1024

/** With a store, a spec's bound is that of the store; without one, it is that of memory. */
const windowOf = (store: OutputStore["Type"], maxBytes: number | undefined): number =>
  Option.isNone(store.open) && maxBytes !== undefined ? maxBytes : store.window.maxBytesPerJob
