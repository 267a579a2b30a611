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
import type { Process, ProcessSpawner } from "../../ProcessSpawner.ts"
import { Actor, type Reply } from "../actor/actor.ts"
import type { Broadcaster } from "../output/broadcaster.ts"
import type * as Telemetry from "../telemetry/telemetry.ts"
import { sleep } from "../time/sleep.ts"

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

/** How to stop; what is absent is as the job's spec says. */
export interface StopOptions {
  readonly signal?: Signal | undefined
  readonly gracePeriod?: Duration.Duration | undefined
}

export interface Worker {
  readonly id: JobId
  readonly spec: JobSpec
  readonly process: Process
  readonly state: Readonly<JobState>
  readonly broadcaster: Broadcaster
  readonly span: Telemetry.JobSpan
  /** How long its own stop may take. */
  readonly gracePeriod: Duration.Duration
  readonly drainTimeout: Duration.Duration
  /** Begins to stop the job, or joins the stop that is under way. */
  readonly stop: (options: StopOptions) => Effect.Effect<void, JobAlreadyEnded>
  /** The same as the coordinator's shutdown does it: without waiting for room in the mailbox. */
  readonly shutDown: () => void
  /** The job's end; fails if the coordinator closed before it. */
  readonly ended: Effect.Effect<Ended, CoordinatorStopped>
  /** Gives up a job that cannot be ended. */
  readonly abandon: Effect.Effect<void>
}

type Message =
  | { readonly _tag: "Stop"; readonly options: StopOptions; readonly reply: Reply<void> }
  | { readonly _tag: "ShutDown" }
  | { readonly _tag: "TimedOut" }
  | { readonly _tag: "LimitReached" }
  | { readonly _tag: "GraceOver" }
  | { readonly _tag: "Exited"; readonly status: Ended; readonly isGone: boolean }
  | { readonly _tag: "Gone" }
  | { readonly _tag: "OutputEnded" }
  | { readonly _tag: "DrainOver" }
  | { readonly _tag: "Settled" }

/** Starts the process, in the caller's fiber. `onEnded` is called before anybody else can see that the job has ended. */
export const start = (options: {
  readonly id: JobId
  readonly spec: JobSpec
  readonly config: Settings
  readonly spawner: ProcessSpawner["Type"]
  readonly broadcaster: Broadcaster
  readonly span: Telemetry.JobSpan
  readonly clock: Clock.Clock
  readonly runtime: Runtime.Runtime<never>
  readonly onEnded: (worker: Worker) => void
}): Effect.Effect<Worker, JobStartError | InvalidJobSpec> =>
  Effect.flatMap(Scope.make(), (scope) => {
    const { broadcaster, clock, config, id, runtime, spec } = options
    const signal = spec.stop?.signal ?? config.stop.signal
    const gracePeriod = spec.stop?.gracePeriod ?? config.stop.gracePeriod
    const drainTimeout = spec.drainTimeout ?? config.drainTimeout

    const state: JobState = {
      status: running,
      startedAt: clock.unsafeCurrentTimeMillis(),
      exitedAt: undefined,
      endedAt: undefined,
      stopReason: undefined,
      cut: false
    }

    let openPipes = 2
    let isGone = false
    let outcome: Exit.Exit<Ended, CoordinatorStopped> | undefined
    let deadline: number | undefined
    const sent = new Set<Signal>()
    const waiting = new Set<(outcome: Exit.Exit<Ended, CoordinatorStopped>) => void>()

    const receive = (message: Message): Effect.Effect<void> | void => {
      if (outcome !== undefined) return
      switch (message._tag) {
        case "Stop":
          return Effect.map(stop("caller", message.options), () => message.reply(Exit.void))
        case "ShutDown":
          return stop("shutdown")
        case "TimedOut":
          return stop("timeout")
        case "LimitReached":
          return stop("limit")
        case "GraceOver":
          return send("SIGKILL")
        case "Exited":
          return exited(message.status, message.isGone)
        case "Gone":
          return gone()
        case "OutputEnded":
          return isGone && openPipes === 0 ? settle() : undefined
        case "DrainOver":
          return cut
        case "Settled":
          return end()
      }
    }

    const actor = new Actor<Message, JobAlreadyEnded>({
      capacity: config.mailboxCapacity,
      runtime,
      stopped: () => new JobAlreadyEnded({ id }),
      receive
    })

    /** Receives a message when an effect is done, unless the job has ended before. */
    const after = (effect: Effect.Effect<void>, message: Message): void => {
      Runtime.runFork(runtime)(Effect.map(effect, () => actor.notify(message)), { scope })
    }

    const later = (delay: Duration.Duration, message: Message): void => {
      if (Duration.isFinite(delay)) after(sleep(delay), message)
    }

    /** A job has one stop, with one deadline: the first call begins it, a later one can only make it harsher. */
    const stop = (reason: StopReason | undefined, how: StopOptions = {}): Effect.Effect<void> => {
      if (isGone) return Effect.void
      if (deadline === undefined && state.exitedAt === undefined) state.stopReason = reason
      const first = how.signal ?? signal
      const grace = first === "SIGKILL" ? Duration.zero : how.gracePeriod ?? gracePeriod
      const now = clock.unsafeCurrentTimeMillis()
      const newDeadline = now + Duration.toMillis(grace)
      const begin = send(first)
      if (deadline !== undefined && newDeadline >= deadline) return begin
      deadline = newDeadline
      if (newDeadline <= now) return Effect.zipRight(begin, send("SIGKILL"))
      later(grace, { _tag: "GraceOver" })
      return begin
    }

    /** Each signal once. A stopped (SIGSTOP) process gets no signal but SIGKILL before it is continued. */
    const send = (signal: Signal): Effect.Effect<void> => {
      if (isGone || sent.has(signal) || sent.has("SIGKILL")) return Effect.void
      sent.add(signal)
      const { process } = worker
      return signal === "SIGKILL"
        ? process.signal(signal)
        : Effect.zipRight(process.signal(signal), process.signal("SIGCONT"))
    }

    /** The leader has left: so must the rest of its group. */
    const exited = (status: Ended, isGone: boolean): Effect.Effect<void> | void => {
      state.status = status
      state.exitedAt = clock.unsafeCurrentTimeMillis()
      if (state.stopReason === undefined && diedOfLimit(spec, status)) state.stopReason = "limit"
      // An effect takes a fiber, and most leaders leave nobody behind.
      if (isGone) return gone()
      return Effect.flatMap(worker.process.isGone, (isGone) => {
        if (isGone) return gone() ?? Effect.void
        const begin = deadline === undefined ? stop(undefined) : Effect.void
        return Effect.map(begin, () => after(worker.process.awaitGone, { _tag: "Gone" }))
      })
    }

    const gone = (): Effect.Effect<void> | void => {
      isGone = true
      broadcaster.drain()
      if (openPipes === 0) return settle()
      later(drainTimeout, { _tag: "DrainOver" })
    }

    /** Something that left the group holds a pipe, and nobody knows for how long. */
    const cut = Effect.suspend(() =>
      Effect.map(worker.process.cutOutput, (wasOpen) => {
        state.cut = wasOpen
      })
    )

    /** Nothing more will come. */
    const settle = (): Effect.Effect<void> | void =>
      broadcaster.settled === undefined ? end() : after(broadcaster.settled, { _tag: "Settled" })

    // Whoever learns of the end, even by `endedAt`, finds the coordinator told: its notices go before every request.
    const end = () => finish(Exit.succeed(state.status as Ended), clock.unsafeCurrentTimeMillis())

    const finish = (how: Exit.Exit<Ended, CoordinatorStopped>, endedAt?: number): Effect.Effect<void> => {
      if (outcome !== undefined) return Effect.void
      outcome = how
      state.endedAt = endedAt
      options.onEnded(worker)
      broadcaster.end(Exit.isFailure(how) ? Option.some(new CoordinatorStopped()) : Option.none())
      waiting.forEach((resume) => resume(how))
      waiting.clear()
      actor.stop()
      return Scope.close(scope, Exit.void)
    }

    /** A `Deferred` would cost several times as much, time and memory. */
    const ended = Effect.async<Ended, CoordinatorStopped>((resume) => {
      if (outcome !== undefined) return resume(outcome)
      waiting.add(resume)
      return Effect.sync(() => waiting.delete(resume))
    })

    // A process may be quicker than its spawner: what it reports before there is a worker has to wait.
    const early: Array<Message> = []
    let report = (message: Message): void => void early.push(message)

    const connect = (process: Process): Worker => {
      broadcaster.connect(process.resumeOutput, () => actor.notify({ _tag: "LimitReached" }))
      worker = {
        id,
        spec,
        process,
        state,
        broadcaster,
        span: options.span,
        gracePeriod,
        drainTimeout,
        stop: (how) => actor.ask((reply) => ({ _tag: "Stop", options: how, reply })),
        shutDown: () => actor.notify({ _tag: "ShutDown" }),
        ended,
        // What only waits for a store has a true end.
        abandon: Effect.suspend(() => isGone && openPipes === 0 ? end() : finish(Exit.fail(new CoordinatorStopped())))
      }
      if (spec.timeout !== undefined) later(spec.timeout, { _tag: "TimedOut" })
      report = (message) => actor.notify(message)
      early.forEach(report)
      return worker
    }
    let worker: Worker

    return options.spawner.spawn(spec, {
      onOutput: broadcaster.write,
      onOutputEnd: () => {
        openPipes--
        report({ _tag: "OutputEnded" })
      },
      onExit: (status, isGone = false) => report({ _tag: "Exited", status, isGone })
    }).pipe(
      // In one step, because each change of the context costs.
      Effect.mapInputContext((context: Context.Context<never>) =>
        context.pipe(Context.add(Scope.Scope, scope), addSpan(options.span.current))
      ),
      Effect.tapErrorCause((cause) => Scope.close(scope, Exit.failCause(cause))),
      Effect.map(connect)
    )
  })

const addSpan = (span: Tracer.Span | undefined) => (context: Context.Context<Scope.Scope>) =>
  span === undefined ? context : Context.add(context, Tracer.ParentSpan, span)

/** Whether the signal proves that a limit of the spec ended the process. */
const diedOfLimit = (spec: JobSpec, status: Ended): boolean =>
  status._tag === "Killed" &&
  (status.signal === "SIGXCPU" && spec.limits?.cpuTime !== undefined ||
    status.signal === "SIGXFSZ" && spec.limits?.fileSize !== undefined)
