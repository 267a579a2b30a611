/**
 * The actor that owns the process of one job, from its start to its end.
 *
 * A job goes through three moments. *Exited*: its leader has been reaped. *Gone*: no process of its group is alive.
 * *Ended*: gone, both pipes are at their end, or cut, and the store has what came through them, or has failed.
 */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type { Settings } from "../../JobConfig.ts"
import { CoordinatorStopped, type InvalidJobSpec, JobAlreadyEnded, type JobStartError } from "../../JobError.ts"
import type { JobId } from "../../JobId.ts"
import type { StopReason } from "../../JobInfo.ts"
import type { JobSpec } from "../../JobSpec.ts"
import { type Ended, type JobStatus, running, type Signal } from "../../JobStatus.ts"
import type { Process, ProcessListener, ProcessSpawner } from "../../ProcessSpawner.ts"
import * as Actor from "../actor/actor.ts"
import type { Broadcaster } from "../output/broadcaster.ts"
import type { JobSpan } from "../telemetry/telemetry.ts"
import { monotonic } from "../time/monotonic.ts"
import { sleep } from "../time/sleep.ts"
import { Outcome } from "./outcome.ts"
import { Stop, type StopOptions } from "./stop.ts"

/** What is known of a job's process; its worker alone writes it. */
export interface JobState {
  status: JobStatus
  readonly startedAt: number
  exitedAt: number | undefined
  endedAt: number | undefined
  stopReason: StopReason | undefined
  /** Whether a pipe was given up because something that had left the group still held it. */
  cut: boolean
}

/** What the workers of a coordinator have in common. */
export interface Shared {
  readonly config: Settings
  readonly spawner: ProcessSpawner["Type"]
  readonly clock: Clock.Clock
  readonly runtime: Runtime.Runtime<never>
  /** In which they live. */
  readonly workers: Scope.Scope
}

export interface Job {
  readonly id: JobId
  readonly spec: JobSpec
  readonly broadcaster: Broadcaster
  readonly span: JobSpan
  /** Is called before anybody else can see that the job has ended, or that it was given up. */
  readonly onEnded: (worker: Worker) => void
}

type Message =
  | { readonly _tag: "Stop"; readonly options: StopOptions; readonly reply: Actor.Reply<void> }
  | { readonly _tag: "ShutDown" }
  | { readonly _tag: "TimedOut" }
  | { readonly _tag: "LimitReached" }
  | { readonly _tag: "GraceOver" }
  | { readonly _tag: "Exited"; readonly status: Ended; readonly isGone: boolean }
  | { readonly _tag: "Gone" }
  | { readonly _tag: "OutputEnded" }
  | { readonly _tag: "DrainOver" }
  | { readonly _tag: "Settled" }

type Mailbox = Actor.Actor<Message, JobAlreadyEnded | CoordinatorStopped>

/** Starts the process, in the caller's fiber. */
export const start = (job: Job, shared: Shared): Effect.Effect<Worker, JobStartError | InvalidJobSpec> =>
  Effect.flatMap(Scope.fork(shared.workers, ExecutionStrategy.sequential), (scope) => {
    const state = begin(shared.clock)
    const mailbox = Actor.make<Message, JobAlreadyEnded | CoordinatorStopped>({
      capacity: shared.config.mailboxCapacity,
      runtime: shared.runtime,
      stopped: () => state.endedAt === undefined ? new CoordinatorStopped() : new JobAlreadyEnded({ id: job.id })
    })
    return Effect.flatMap(mailbox, (mailbox) =>
      shared.spawner.spawn(job.spec, listener(job.broadcaster, mailbox)).pipe(
        // In one step, because each change of the context costs.
        Effect.mapInputContext((context: Context.Context<never>) =>
          context.pipe(Context.add(Scope.Scope, scope), addSpan(job.span.current))
        ),
        Effect.tapErrorCause((cause) => Scope.close(scope, Exit.failCause(cause))),
        Effect.map((process) => new Worker(job, shared, state, process, mailbox, scope)),
        Effect.tap((worker) => worker.start)
      ))
  })

const begin = (clock: Clock.Clock): JobState => ({
  status: running,
  startedAt: clock.unsafeCurrentTimeMillis(),
  exitedAt: undefined,
  endedAt: undefined,
  stopReason: undefined,
  cut: false
})

/** A process may be quicker than its spawner: what it tells before there is a worker waits in the mailbox. */
const listener = (broadcaster: Broadcaster, mailbox: Mailbox): ProcessListener => ({
  onOutput: (source, bytes) => broadcaster.write(source, bytes),
  onOutputEnd: () => mailbox.notify({ _tag: "OutputEnded" }),
  onExit: (status, isGone = false) => mailbox.notify({ _tag: "Exited", status, isGone })
})

const addSpan = (span: Tracer.Span | undefined) => (context: Context.Context<Scope.Scope>) =>
  span === undefined ? context : Context.add(context, Tracer.ParentSpan, span)

export class Worker {
  readonly id: JobId
  readonly spec: JobSpec
  readonly process: Process
  readonly broadcaster: Broadcaster
  readonly span: JobSpan
  readonly drainTimeout: Duration.Duration
  readonly state: Readonly<JobState>
  private readonly own: JobState
  private readonly shared: Shared
  private readonly mailbox: Mailbox
  private readonly scope: Scope.CloseableScope
  private readonly onEnded: (worker: Worker) => void
  private readonly policy: Stop
  private readonly outcome = new Outcome<Ended, CoordinatorStopped>()
  private openPipes = 2
  private isGone = false

  constructor(
    job: Job,
    shared: Shared,
    state: JobState,
    process: Process,
    mailbox: Mailbox,
    scope: Scope.CloseableScope
  ) {
    const { config } = shared
    this.id = job.id
    this.spec = job.spec
    this.process = process
    this.broadcaster = job.broadcaster
    this.span = job.span
    this.onEnded = job.onEnded
    this.shared = shared
    this.mailbox = mailbox
    this.scope = scope
    this.drainTimeout = job.spec.drainTimeout ?? config.drainTimeout
    this.policy = new Stop(
      job.spec.stop?.signal ?? config.stop.signal,
      job.spec.stop?.gracePeriod ?? config.stop.gracePeriod
    )
    this.own = this.state = state
  }

  /** From now on it receives; when the scope closes, it gives up a job that has not ended. */
  get start(): Effect.Effect<void> {
    const { broadcaster, mailbox, process, scope, spec } = this
    broadcaster.connect(process.resumeOutput, () => mailbox.notify({ _tag: "LimitReached" }))
    if (spec.timeout !== undefined) this.later(spec.timeout, { _tag: "TimedOut" })
    return Effect.zipRight(
      Scope.addFinalizer(scope, Effect.sync(() => this.finish())),
      mailbox.start((message) => this.receive(message), scope)
    )
  }

  /** How long its own stop may take. */
  get gracePeriod(): Duration.Duration {
    return this.policy.gracePeriod
  }

  /** The job's end; fails if the coordinator closed before it. */
  get ended(): Effect.Effect<Ended, CoordinatorStopped> {
    return this.outcome.await
  }

  /** Begins to stop the job, or joins the stop that is under way. */
  stop(options: StopOptions): Effect.Effect<void, JobAlreadyEnded | CoordinatorStopped> {
    return this.mailbox.ask((reply) => ({ _tag: "Stop", options, reply }))
  }

  /** The same as the coordinator's shutdown does it: without waiting for room in the mailbox. */
  shutDown(): void {
    this.mailbox.notify({ _tag: "ShutDown" })
  }

  private receive(message: Message): Effect.Effect<void> | void {
    if (this.outcome.isSettled) return
    switch (message._tag) {
      case "Stop":
        return Effect.map(this.begin("caller", message.options), () => message.reply(Exit.void))
      case "ShutDown":
        return this.begin("shutdown")
      case "TimedOut":
        return this.begin("timeout")
      case "LimitReached":
        return this.begin("limit")
      case "GraceOver":
        return this.send(this.policy.kill())
      case "Exited":
        return this.exited(message.status, message.isGone)
      case "Gone":
        return this.gone()
      case "OutputEnded":
        this.openPipes--
        return this.settleIfDone()
      case "DrainOver":
        return this.cut
      case "Settled":
        return this.end()
    }
  }

  private begin(reason: StopReason | undefined, options: StopOptions = {}): Effect.Effect<void> {
    if (this.isGone) return Effect.void
    if (!this.policy.hasBegun && this.own.exitedAt === undefined) this.own.stopReason = reason
    const { killAfter, signals } = this.policy.begin(options, monotonic(this.shared.clock))
    if (killAfter !== undefined) this.later(killAfter, { _tag: "GraceOver" })
    return this.send(signals)
  }

  private send(signals: ReadonlyArray<Signal>): Effect.Effect<void> {
    return this.isGone
      ? Effect.void
      : Effect.forEach(signals, (signal) => this.process.signal(signal), { discard: true })
  }

  /** The leader has left: so must the rest of its group. */
  private exited(status: Ended, isGone: boolean): Effect.Effect<void> | void {
    this.own.status = status
    this.own.exitedAt = this.shared.clock.unsafeCurrentTimeMillis()
    if (this.own.stopReason === undefined && diedOfLimit(this.spec, status)) this.own.stopReason = "limit"
    if (isGone) return this.gone()
    return Effect.flatMap(this.process.isGone, (isGone) => {
      if (isGone) return this.gone() ?? Effect.void
      const begin = this.policy.hasBegun ? Effect.void : this.begin(undefined)
      return Effect.map(begin, () => this.after(this.process.awaitGone, { _tag: "Gone" }))
    })
  }

  private gone(): Effect.Effect<void> | void {
    this.isGone = true
    this.broadcaster.drain()
    if (this.openPipes > 0) this.later(this.drainTimeout, { _tag: "DrainOver" })
    return this.settleIfDone()
  }

  /** Something that left the group holds a pipe, and nobody knows for how long. */
  private get cut(): Effect.Effect<void> {
    return Effect.map(this.process.cutOutput, (wasOpen) => {
      this.own.cut = wasOpen
    })
  }

  /** Whether nothing more will come. */
  private get isDone(): boolean {
    return this.isGone && this.openPipes <= 0
  }

  private settleIfDone(): Effect.Effect<void> | void {
    if (!this.isDone) return
    const { settled } = this.broadcaster
    if (settled === undefined) return this.end()
    this.after(settled, { _tag: "Settled" })
  }

  private end(): Effect.Effect<void> {
    this.finish()
    return Scope.close(this.scope, Exit.void)
  }

  /**
   * A job of which only the store was waited for has a true end. Whoever learns of it, even by `endedAt`, finds the
   * coordinator told: its notices go before every request.
   */
  private finish(): void {
    if (this.outcome.isSettled) return
    const { status } = this.own
    const hasEnded = this.isDone && status._tag !== "Running"
    if (hasEnded) this.own.endedAt = this.shared.clock.unsafeCurrentTimeMillis()
    this.onEnded(this)
    this.broadcaster.end(hasEnded ? Option.none() : Option.some(new CoordinatorStopped()))
    this.outcome.settle(hasEnded ? Exit.succeed(status) : Exit.fail(new CoordinatorStopped()))
  }

  /** Receives a message when an effect is done, unless the job has ended before. */
  private after(effect: Effect.Effect<void>, message: Message): void {
    const { mailbox, scope, shared } = this
    Runtime.runFork(shared.runtime)(Effect.map(effect, () => mailbox.notify(message)), { scope })
  }

  private later(delay: Duration.Duration, message: Message): void {
    if (Duration.isFinite(delay)) this.after(sleep(delay), message)
  }
}

/** Whether the signal proves that a limit of the spec ended the process. */
const diedOfLimit = (spec: JobSpec, status: Ended): boolean =>
  status._tag === "Killed" &&
  (status.signal === "SIGXCPU" && spec.limits?.cpuTime !== undefined ||
    status.signal === "SIGXFSZ" && spec.limits?.fileSize !== undefined)
