/**
 * The actor that owns the table of jobs. It never waits: it looks up, notes down, and answers; its callers' fibers start
 * processes and wait for them.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"
import { JobConfig } from "../../JobConfig.ts"
import {
  CoordinatorStopped,
  type InvalidJobSpec,
  type JobLimitReached,
  type JobNotFound,
  type JobStartError,
  type JobStillRunning
} from "../../JobError.ts"
import type { JobId } from "../../JobId.ts"
import type { JobInfo } from "../../JobInfo.ts"
import type { JobSpec } from "../../JobSpec.ts"
import { OutputStore } from "../../OutputStore.ts"
import { ProcessSpawner } from "../../ProcessSpawner.ts"
import * as Actor from "../actor/actor.ts"
import type * as Broadcaster from "../output/broadcaster.ts"
import { OutputBudget } from "../output/outputBudget.ts"
import * as Telemetry from "../telemetry/telemetry.ts"
import { nextTurn } from "../time/nextTurn.ts"
import { sleep } from "../time/sleep.ts"
import type * as Worker from "../worker/worker.ts"
import { EventLog, type Listener } from "./eventLog.ts"
import { type Place, Places } from "./places.ts"
import * as Starting from "./starting.ts"
import { type Filter, Table } from "./table.ts"

type Message =
  | { readonly _tag: "Reserve"; readonly place: Place; readonly reply: Actor.Reply<void, JobLimitReached> }
  | { readonly _tag: "Leave"; readonly place: Place }
  | { readonly _tag: "Started"; readonly worker: Worker.Worker; readonly place: Place }
  | { readonly _tag: "Ended"; readonly worker: Worker.Worker; readonly place: Place }
  | { readonly _tag: "Find"; readonly id: JobId; readonly reply: Actor.Reply<Worker.Worker, JobNotFound> }
  | { readonly _tag: "List"; readonly filter: Filter; readonly reply: Actor.Reply<ReadonlyArray<JobInfo>> }
  | { readonly _tag: "Remove"; readonly id: JobId; readonly reply: Actor.Reply<void, JobNotFound | JobStillRunning> }
  | { readonly _tag: "Listen"; readonly reply: Actor.Reply<Listener> }
  | { readonly _tag: "Unlisten"; readonly listener: Listener }
  | { readonly _tag: "Expire" }
  | { readonly _tag: "Close"; readonly reply: Actor.Reply<ReadonlyArray<Worker.Worker>> }
  | { readonly _tag: "Closed"; readonly reply: Actor.Reply<ReadonlyArray<Worker.Worker>> }

type Mailbox = Actor.Actor<Message, CoordinatorStopped>

interface Shared extends Broadcaster.Shared, Worker.Shared {
  readonly workers: Scope.CloseableScope
}

/** To list more jobs takes so long that the event loop has its turn after it. */
const manyJobs = 100

export const make: Effect.Effect<Coordinator, never, ProcessSpawner | OutputStore | Scope.Scope> = Effect.gen(
  function*() {
    const config = yield* JobConfig
    const spawner = yield* ProcessSpawner
    const store = yield* OutputStore
    const clock = yield* Effect.clock
    const runtime = yield* Effect.interruptible(Effect.runtime<never>())
    const depth = yield* Telemetry.share(Telemetry.mailboxDepth)
    const subscribers = yield* Telemetry.share(Telemetry.subscribers)
    const running = yield* Telemetry.share(Telemetry.running)
    // Never closed, because that waits for all fibers of the set, and a disk may hang.
    const storing = yield* Scope.extend(FiberSet.make<void>(), yield* Scope.make())
    const mailbox = yield* Actor.make<Message, CoordinatorStopped>({
      capacity: config.mailboxCapacity,
      runtime,
      stopped: () => new CoordinatorStopped(),
      onDepth: (value) => depth.set(value)
    })
    const coordinator = new Coordinator(mailbox, new Places(config.maxRunning, running), storing, {
      config,
      spawner,
      store,
      clock,
      runtime,
      subscribers,
      budget: new OutputBudget(store.window.maxBytes),
      forkStoring: yield* Effect.interruptible(FiberSet.runtime(storing)<never>()),
      // Closed by `close`, after all jobs have had their time.
      workers: yield* Scope.make(ExecutionStrategy.parallel)
    })
    yield* Effect.acquireRelease(coordinator.open(yield* Effect.scope), () => coordinator.close)
    return coordinator
  }
)

export class Coordinator {
  private readonly mailbox: Mailbox
  private readonly places: Places
  private readonly storing: FiberSet.FiberSet<void>
  private readonly shared: Shared
  private readonly starting: Starting.Starting
  private readonly events: EventLog
  private readonly table: Table
  private readonly log: Telemetry.JobLog
  private expiring = false
  private closing = false

  constructor(
    mailbox: Mailbox,
    places: Places,
    storing: FiberSet.FiberSet<void>,
    shared: Shared
  ) {
    this.mailbox = mailbox
    this.places = places
    this.storing = storing
    this.shared = shared
    this.starting = {
      shared,
      isClosing: () => this.closing,
      reserve: (place) => mailbox.ask<void, JobLimitReached>((reply) => ({ _tag: "Reserve", place, reply })),
      leave: (place) => mailbox.notify({ _tag: "Leave", place }),
      announce: (worker, place) => mailbox.notify({ _tag: "Started", worker, place }),
      tellEnded: (worker, place) => mailbox.notify({ _tag: "Ended", worker, place })
    }
    this.events = new EventLog(shared.runtime, shared.clock)
    this.table = new Table(shared.config.retention, this.events, shared.clock)
    this.log = Telemetry.jobLog(shared.runtime)
  }

  open(scope: Scope.Scope): Effect.Effect<void> {
    return this.mailbox.start((message) => this.receive(message), scope)
  }

  start(
    spec: JobSpec
  ): Effect.Effect<JobId, JobStartError | InvalidJobSpec | JobLimitReached | CoordinatorStopped> {
    return Starting.start(spec, this.starting)
  }

  find(id: JobId): Effect.Effect<Worker.Worker, JobNotFound | CoordinatorStopped> {
    return this.mailbox.query((reply) => ({ _tag: "Find", id, reply }))
  }

  list(filter: Filter): Effect.Effect<ReadonlyArray<JobInfo>, CoordinatorStopped> {
    return this.mailbox.query((reply) => ({ _tag: "List", filter, reply }))
  }

  remove(id: JobId): Effect.Effect<void, JobNotFound | JobStillRunning | CoordinatorStopped> {
    return this.mailbox.ask((reply) => ({ _tag: "Remove", id, reply }))
  }

  /** The events from now on, after the jobs as they are. */
  get listen(): Effect.Effect<Listener, CoordinatorStopped, Scope.Scope> {
    return Effect.acquireRelease(
      this.mailbox.ask<Listener, never>((reply) => ({ _tag: "Listen", reply })),
      (listener) => Effect.sync(() => this.mailbox.notify({ _tag: "Unlisten", listener }))
    ).pipe(Effect.tap((listener) => listener.subscribe))
  }

  /** Stops all jobs together, gives up those that cannot be stopped, and ends their output and the events. */
  get close(): Effect.Effect<void> {
    return Effect.gen(this, function*() {
      const { config, workers } = this.shared
      const running = yield* Effect.async<ReadonlyArray<Worker.Worker>>((resume) => {
        // In one turn: a start that still saw the door open has announced its job before this.
        this.closing = true
        this.mailbox.notify({ _tag: "Close", reply: resume })
      })
      const limit = running.map((worker) => Duration.sum(worker.gracePeriod, worker.drainTimeout))
        .reduce(Duration.max, config.drainTimeout)
      yield* this.places.awaitEmpty.pipe(
        Effect.zipRight(FiberSet.awaitEmpty(this.storing)),
        Effect.interruptible,
        Effect.timeoutOption(Duration.sum(limit, "1 second"))
      )
      yield* Scope.close(workers, Exit.void)
      const all = yield* Effect.async<ReadonlyArray<Worker.Worker>>((resume) => {
        this.mailbox.notify({ _tag: "Closed", reply: resume })
      })
      yield* Effect.forEach(all, warnOfLoss, { discard: true })
    })
  }

  private receive(message: Message): Effect.Effect<void> | void {
    switch (message._tag) {
      case "Reserve":
        return message.reply(this.places.take(message.place))
      case "Leave":
        return this.places.leave(message.place)
      case "Started":
        return this.started(message.worker, message.place)
      case "Ended":
        return this.ended(message.worker, message.place)
      case "Find":
        return message.reply(this.table.find(message.id))
      case "List":
        message.reply(Exit.succeed(this.table.list(message.filter)))
        return this.table.size > manyJobs ? nextTurn : undefined
      case "Remove":
        return message.reply(this.table.remove(message.id))
      case "Listen":
        return message.reply(Exit.succeed(this.events.listen(this.table.list({}))))
      case "Unlisten":
        return this.events.unlisten(message.listener)
      case "Expire":
        this.expiring = false
        return this.expire()
      case "Close":
        return message.reply(Exit.succeed(this.shutDown()))
      case "Closed":
        message.reply(Exit.succeed(this.table.close()))
        return this.events.end()
    }
  }

  /** A job may end before it is announced. Its end is then news once more. */
  private started(worker: Worker.Worker, place: Place): Effect.Effect<void> | void {
    this.table.add(worker)
    if (place.state === "left") this.mailbox.notify({ _tag: "Ended", worker, place })
    return this.log("Job started", worker)
  }

  /** A job that is not in the table may be announced later, or its start is being undone. */
  private ended(worker: Worker.Worker, place: Place): Effect.Effect<void> | void {
    this.places.leave(place)
    if (!this.table.has(worker)) return
    this.table.end(worker)
    this.expire()
    return this.log("Job ended", worker)
  }

  /** Removes what retention lets go, and comes back when the next job's time is over. */
  private expire(): void {
    const wait = this.table.expire()
    if (this.expiring || this.closing || wait === Infinity) return
    this.expiring = true
    const comeBack = Effect.sync(() => this.mailbox.notify({ _tag: "Expire" }))
    const { runtime, workers } = this.shared
    Runtime.runFork(runtime)(Effect.zipRight(sleep(Duration.millis(wait)), comeBack), { scope: workers })
  }

  /** Closes the door and begins to stop every job; which these are. */
  private shutDown(): ReadonlyArray<Worker.Worker> {
    this.mailbox.stop()
    const { running } = this.table
    running.forEach((worker) => worker.shutDown())
    return running
  }
}

/** Nobody else will say so: the store may be slow, and the application is about to leave. */
const warnOfLoss = ({ broadcaster: { archive }, id }: Worker.Worker): Effect.Effect<void> =>
  archive === undefined || archive.missingBytes === 0
    ? Effect.void
    : Effect.logWarning(`${archive.missingBytes} bytes of the output of job ${id} are lost: they are not in its store`)
      .pipe(Effect.catchAllCause(() => Effect.void))
