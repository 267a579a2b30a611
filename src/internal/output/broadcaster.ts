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
import * as Scope from "effect/Scope"
import type { Settings } from "../../JobConfig.ts"
import { CoordinatorStopped, JobNotFound, type SubscriberLimitReached } from "../../JobError.ts"
import type { JobId } from "../../JobId.ts"
import type { OutputSource } from "../../Output.ts"
import type { OutputStore } from "../../OutputStore.ts"
import * as Actor from "../actor/actor.ts"
import type { Share } from "../telemetry/telemetry.ts"
import { Archive } from "./archive.ts"
import type { OutputBudget } from "./outputBudget.ts"
import { OutputLog } from "./outputLog.ts"
import { Subscribers } from "./subscribers.ts"
import type { Source, Subscription } from "./subscription.ts"
import { WakeUps } from "./wakeUps.ts"

/** What the broadcasters of a coordinator have in common. */
export interface Shared {
  readonly config: Settings
  readonly store: OutputStore["Type"]
  readonly budget: OutputBudget
  /** How many subscribers all jobs together have. */
  readonly subscribers: Share
  readonly runtime: Runtime.Runtime<never>
  readonly clock: Clock.Clock
  /** Runs what writes to the store. */
  readonly forkStoring: (effect: Effect.Effect<void>) => void
}

type Message =
  | {
    readonly _tag: "Subscribe"
    readonly subscription: Subscription
    readonly reply: Actor.Reply<void, SubscriberLimitReached>
  }
  | { readonly _tag: "Unsubscribe"; readonly subscription: Subscription }
  | { readonly _tag: "Connect"; readonly resume: Effect.Effect<void>; readonly onStoreFull: () => void }
  | { readonly _tag: "Advanced" }
  | { readonly _tag: "Stored"; readonly position: number }
  | { readonly _tag: "StoreFull" }
  | { readonly _tag: "Drain" }
  | { readonly _tag: "End"; readonly failure: Option.Option<CoordinatorStopped> }
  | { readonly _tag: "Remove" }
  | { readonly _tag: "Close" }

type Mailbox = Actor.Actor<Message, CoordinatorStopped>

/** The broadcaster of a job of whose output its spec wants to keep so many bytes. */
export const make = (id: JobId, maxBytes: number | undefined, shared: Shared): Effect.Effect<Broadcaster> =>
  Effect.zipWith(
    Scope.make(),
    Actor.make<Message, CoordinatorStopped>({
      capacity: shared.config.mailboxCapacity,
      runtime: shared.runtime,
      stopped: () => new CoordinatorStopped()
    }),
    (scope, mailbox) => new Broadcaster(id, maxBytes, shared, mailbox, scope)
  ).pipe(Effect.tap((broadcaster) => broadcaster.start))

export class Broadcaster implements Source {
  readonly id: JobId
  readonly log: OutputLog
  readonly archive: Archive | undefined
  readonly wakeUps: WakeUps
  private readonly shared: Shared
  private readonly mailbox: Mailbox
  private readonly scope: Scope.CloseableScope
  private readonly window: number
  private readonly subscribers: Subscribers
  /** How to read on after `write` answered `false`, and whom to tell that the store is full; once there is a process. */
  private process: { readonly resume: Effect.Effect<void>; readonly onStoreFull: () => void } | undefined
  private storeIsFull = false
  private unannounced = 0
  private paused = false
  /** Whether readers have moved on since the last look: thousands may do so together. */
  private hasAdvanced = false
  private state: "open" | "closed" | "removed" = "open"
  private hasLeft = false

  constructor(
    id: JobId,
    maxBytes: number | undefined,
    shared: Shared,
    mailbox: Mailbox,
    scope: Scope.CloseableScope
  ) {
    this.id = id
    this.shared = shared
    this.mailbox = mailbox
    this.scope = scope
    this.window = windowOf(shared.store, maxBytes)
    this.log = new OutputLog(this.window, shared.budget, () => shared.clock.unsafeCurrentTimeMillis())
    this.wakeUps = new WakeUps(shared.runtime, shared.clock)
    this.subscribers = new Subscribers(this.log, shared.config, shared.subscribers)
    this.archive = this.openArchive(maxBytes)
    shared.budget.open(this.log)
  }

  get start(): Effect.Effect<void> {
    return this.mailbox.start((message) => this.receive(message), this.scope)
  }

  /** Takes what was read from a pipe; `false`: read no more until the pipes are resumed. */
  write(source: OutputSource, bytes: Uint8Array): boolean {
    const hasRoom = this.log.append(source, bytes)
    if (!hasRoom) this.paused = true
    this.announce(bytes.length)
    this.archive?.advance()
    return hasRoom
  }

  /** Tells how to read on after `write` answered `false`, and whom to tell that the store is full. */
  connect(resume: Effect.Effect<void>, onStoreFull: () => void): void {
    this.mailbox.notify({ _tag: "Connect", resume, onStoreFull })
  }

  /** Nothing of the job is alive: what is left in its pipes is taken, whatever its readers do. */
  drain(): void {
    this.mailbox.notify({ _tag: "Drain" })
  }

  /** Waits until the store, if there is one, has everything that has come, or keeps no more. */
  get settled(): Effect.Effect<void> | undefined {
    return this.archive?.settled
  }

  /** Nothing more will come: the job has ended, or its coordinator has given it up (`failure`). */
  end(failure: Option.Option<CoordinatorStopped>): void {
    this.mailbox.notify({ _tag: "End", failure })
  }

  /** The job has left the table: its log goes with its last reader. */
  remove(): void {
    this.mailbox.notify({ _tag: "Remove" })
  }

  /** The coordinator has closed: what a store has stays there, and nobody more may read. */
  close(): void {
    this.mailbox.notify({ _tag: "Close" })
  }

  admit(subscription: Subscription): Effect.Effect<void, SubscriberLimitReached | JobNotFound | CoordinatorStopped> {
    return Effect.mapError(
      this.mailbox.ask<void, SubscriberLimitReached>((reply) => ({ _tag: "Subscribe", subscription, reply })),
      // The job may have been removed since it was found.
      (error) =>
        this.state === "removed" && error._tag === "CoordinatorStopped" ? new JobNotFound({ id: this.id }) : error
    )
  }

  advanced(): void {
    if (this.hasAdvanced) return
    this.hasAdvanced = true
    this.mailbox.notify({ _tag: "Advanced" })
  }

  dismiss(subscription: Subscription): void {
    this.mailbox.notify({ _tag: "Unsubscribe", subscription })
  }

  private receive(message: Message): Effect.Effect<void> | void {
    switch (message._tag) {
      case "Subscribe":
        return message.reply(this.subscribers.admit(message.subscription))
      case "Unsubscribe":
        this.subscribers.dismiss(message.subscription)
        return this.leave() ?? this.goOn()
      case "Connect":
        this.process = message
        if (this.storeIsFull) message.onStoreFull()
        return this.goOn()
      case "Advanced":
        this.hasAdvanced = false
        return this.goOn()
      case "Stored":
        this.log.stored = message.position
        return this.goOn()
      case "StoreFull":
        this.storeIsFull = true
        return this.process?.onStoreFull()
      case "Drain":
        this.log.boundedFrom = this.log.head + maxLeftInPipes
        return this.goOn()
      case "End":
        this.log.ended = true
        this.log.failure = message.failure
        return this.wakeUps.announce(true)
      case "Remove":
        this.state = "removed"
        return this.leave()
      case "Close":
        this.mailbox.stop()
        if (this.state === "open") this.state = "closed"
        return this.leave()
    }
  }

  private openArchive(maxBytes: number | undefined): Archive | undefined {
    const { log, mailbox, shared } = this
    return Option.getOrUndefined(Option.map(shared.store.open, (open) => {
      log.stored = 0
      return new Archive({
        log,
        // A store may also throw.
        open: Effect.suspend(() => open(this.id, Option.fromNullable(maxBytes), () => log.pinned)),
        fork: shared.forkStoring,
        stallTimeout: shared.store.stallTimeout,
        onStored: (position) => mailbox.notify({ _tag: "Stored", position }),
        onStopped: (reason) => {
          // From now on memory is all there is, and waits for nobody.
          mailbox.notify({ _tag: "Stored", position: Infinity })
          if (Option.isNone(reason)) mailbox.notify({ _tag: "StoreFull" })
        }
      })
    }))
  }

  /** Readers are woken when it is cheap, but before much of what they have not had would have to go. */
  private announce(bytes: number): void {
    this.unannounced += bytes
    const isUrgent = this.unannounced > this.window / 4
    if (isUrgent) this.unannounced = 0
    this.wakeUps.announce(isUrgent)
  }

  /** Once nobody more may read, the actor lives as long as its last reader. */
  private leave(): Effect.Effect<void> | undefined {
    if (this.state === "open" || this.hasLeft || this.subscribers.size > 0) return undefined
    if (this.state === "removed") this.archive?.remove()
    this.hasLeft = true
    this.shared.budget.close(this.log)
    return Scope.close(this.scope, Exit.void)
  }

  /** Lets the pipes flow again if what kept the log full has moved on. */
  private goOn(): Effect.Effect<void> | void {
    this.log.makeRoom()
    if (!this.paused || this.log.isFull || this.process === undefined) return
    this.paused = false
    return this.process.resume
  }
}

/** Far more than pipes hold, in bytes; what has escaped from a job could write for ever. */
const maxLeftInPipes = 16 * 1024 * 1024

/** With a store, a spec's bound is that of the store; without one, it is that of memory. */
const windowOf = (store: OutputStore["Type"], maxBytes: number | undefined): number =>
  Option.isNone(store.open) && maxBytes !== undefined ? maxBytes : store.window.maxBytesPerJob
