/**
 * The actor that owns the table of jobs. It never waits: it looks up, notes down, and answers; its callers' fibers start
 * processes and wait for them.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"
import type * as Tracer from "effect/Tracer"
import { JobConfig } from "../../JobConfig.ts"
import {
  CoordinatorStopped,
  type InvalidJobSpec,
  JobLimitReached,
  JobNotFound,
  type JobStartError,
  JobStillRunning
} from "../../JobError.ts"
import { JobEnded, JobRemoved, JobStarted } from "../../JobEvent.ts"
import * as JobId from "../../JobId.ts"
import type { JobInfo } from "../../JobInfo.ts"
import type { JobSpec } from "../../JobSpec.ts"
import type { JobStatus } from "../../JobStatus.ts"
import { OutputStore } from "../../OutputStore.ts"
import { ProcessSpawner } from "../../ProcessSpawner.ts"
import { Actor, type Reply } from "../actor/actor.ts"
import * as Broadcaster from "../output/broadcaster.ts"
import { OutputBudget } from "../output/outputBudget.ts"
import * as Telemetry from "../telemetry/telemetry.ts"
import { sleep } from "../time/sleep.ts"
import { EventLog, Listener } from "./eventLog.ts"
import { infoOf } from "./jobInfo.ts"
import { Retention } from "./retention.ts"
import * as Worker from "./worker.ts"

/** Which jobs to list: of this status, with all of these labels. */
export interface Filter {
  readonly status?: JobStatus["_tag"] | undefined
  readonly labels?: Readonly<Record<string, string>> | undefined
}

export interface Coordinator {
  readonly start: (
    spec: JobSpec
  ) => Effect.Effect<JobId.JobId, JobStartError | InvalidJobSpec | JobLimitReached | CoordinatorStopped>
  readonly find: (id: JobId.JobId) => Effect.Effect<Worker.Worker, JobNotFound | CoordinatorStopped>
  readonly list: (filter: Filter) => Effect.Effect<ReadonlyArray<JobInfo>, CoordinatorStopped>
  readonly remove: (id: JobId.JobId) => Effect.Effect<void, JobNotFound | JobStillRunning | CoordinatorStopped>
  /** The events from now on, after the jobs as they are. */
  readonly listen: Effect.Effect<Listener, CoordinatorStopped, Scope.Scope>
}

/** A place among the running jobs, held from before a process is made until its job has ended. */
interface Place {
  state: "wanted" | "taken" | "left"
}

type Message =
  | { readonly _tag: "Reserve"; readonly place: Place; readonly reply: Reply<void, JobLimitReached> }
  | { readonly _tag: "Leave"; readonly place: Place }
  | { readonly _tag: "Started"; readonly worker: Worker.Worker; readonly since: number }
  | { readonly _tag: "Ended"; readonly worker: Worker.Worker; readonly place: Place }
  | { readonly _tag: "Find"; readonly id: JobId.JobId; readonly reply: Reply<Worker.Worker, JobNotFound> }
  | { readonly _tag: "List"; readonly filter: Filter; readonly reply: Reply<ReadonlyArray<JobInfo>> }
  | {
    readonly _tag: "Remove"
    readonly id: JobId.JobId
    readonly reply: Reply<void, JobNotFound | JobStillRunning>
  }
  | { readonly _tag: "Listen"; readonly reply: Reply<Listener> }
  | { readonly _tag: "Unlisten" }
  | { readonly _tag: "Expire" }
  | { readonly _tag: "Close"; readonly reply: Reply<ReadonlyArray<Worker.Worker>> }

export const make: Effect.Effect<Coordinator, never, ProcessSpawner | OutputStore | Scope.Scope> = Effect.gen(
  function*() {
    const config = yield* JobConfig
    const spawner = yield* ProcessSpawner
    const store = yield* OutputStore
    const scope = yield* Effect.scope
    const clock = yield* Effect.clock
    const runtime = yield* Effect.interruptible(Effect.runtime<never>())
    const log = Telemetry.jobLog(runtime)
    const events = new EventLog(runtime, clock)
    const everyPlaceFree = yield* Deferred.make<void>()
    // Never closed, because that waits for all fibers of the set, and a disk may hang.
    const storing = yield* Scope.extend(FiberSet.make<void>(), yield* Scope.make())
    const forkStoring = yield* Effect.interruptible(FiberSet.runtime(storing)<never>())
    const budget = new OutputBudget(store.window.maxBytes)
    const count: Broadcaster.SubscriberCount = { total: 0 }
    const retention = new Retention(config.retention)
    const jobs = new Map<JobId.JobId, Worker.Worker>()
    let placesTaken = 0
    let expiring = false
    let closing = false

    const receive = (message: Message): Effect.Effect<void> | void => {
      switch (message._tag) {
        case "Reserve":
          return message.reply(reserve(message.place))
        case "Leave":
          return leave(message.place)
        case "Started":
          Telemetry.jobStarted(clock.unsafeCurrentTimeMillis() - message.since)
          started(message.worker)
          return log("Job started", message.worker)
        case "Ended":
          leave(message.place)
          Telemetry.jobEnded(message.worker, clock)
          ended(message.worker)
          return log("Job ended", message.worker)
        case "Find":
          return message.reply(find(message.id))
        case "List":
          return message.reply(Exit.succeed(list(message.filter)))
        case "Remove":
          return message.reply(Exit.map(find(message.id), removeIfEnded).pipe(Exit.flatten))
        case "Listen":
          return message.reply(Exit.succeed(events.listen(list({}))))
        case "Unlisten":
          return events.unlisten()
        case "Expire":
          expiring = false
          return expire()
        case "Close":
          return message.reply(Exit.succeed(shutDown()))
      }
    }

    const actor = new Actor<Message, CoordinatorStopped>({
      capacity: config.mailboxCapacity,
      runtime,
      stopped: () => new CoordinatorStopped(),
      onDepth: (depth) => Telemetry.record(Telemetry.mailboxDepth, depth),
      receive
    })

    const reserve = (place: Place): Exit.Exit<void, JobLimitReached> => {
      if (placesTaken >= config.maxRunning) {
        return Exit.fail(new JobLimitReached({ limit: config.maxRunning }, { disableValidation: true }))
      }
      if (place.state === "wanted") {
        place.state = "taken"
        setPlacesTaken(placesTaken + 1)
      }
      return Exit.void
    }

    const setPlacesTaken = (places: number): void => {
      placesTaken = places
      Telemetry.record(Telemetry.running, places)
    }

    const leave = (place: Place): void => {
      if (place.state === "taken") setPlacesTaken(placesTaken - 1)
      place.state = "left"
      if (closing && placesTaken === 0) Deferred.unsafeDone(everyPlaceFree, Exit.void)
    }

    const find = (id: JobId.JobId): Exit.Exit<Worker.Worker, JobNotFound> => {
      const worker = jobs.get(id)
      return worker === undefined
        ? Exit.fail(new JobNotFound({ id }, { disableValidation: true }))
        : Exit.succeed(worker)
    }

    const started = (worker: Worker.Worker): void => {
      jobs.set(worker.id, worker)
      events.publish(() => new JobStarted({ info: infoOf(worker) }, { disableValidation: true }))
      ended(worker)
    }

    /** Does nothing for a job that has not ended or not been announced yet, was given up, or whose start was undone. */
    const ended = (worker: Worker.Worker): void => {
      if (!jobs.has(worker.id) || worker.state.endedAt === undefined) return
      events.publish(() => new JobEnded({ info: infoOf(worker) }, { disableValidation: true }))
      retention.add(worker)
      expire()
    }

    /** Removes what retention lets go, and comes back when the next job's time is over. */
    const expire = (): void => {
      const now = clock.unsafeCurrentTimeMillis()
      retention.takeExpired(now).forEach(remove)
      const { nextExpiry } = retention
      if (expiring || closing || nextExpiry === Infinity) return
      expiring = true
      const comeBack = Effect.sync(() => actor.notify({ _tag: "Expire" }))
      const wait = Effect.zipRight(sleep(Duration.millis(nextExpiry - now)), comeBack)
      Runtime.runFork(runtime)(wait, { scope })
    }

    const removeIfEnded = (worker: Worker.Worker): Exit.Exit<void, JobStillRunning> =>
      worker.state.endedAt === undefined
        ? Exit.fail(new JobStillRunning({ id: worker.id }))
        : Exit.succeed(remove(worker))

    const remove = (worker: Worker.Worker): void => {
      jobs.delete(worker.id)
      retention.delete(worker)
      worker.broadcaster.remove()
      events.publish(() => new JobRemoved({ id: worker.id }))
    }

    const list = (filter: Filter): ReadonlyArray<JobInfo> => {
      const infos: Array<JobInfo> = []
      for (const worker of jobs.values()) if (matches(worker, filter)) infos.push(infoOf(worker))
      return infos
    }

    /** Closes the door and begins to stop every job; which these are. */
    const shutDown = (): ReadonlyArray<Worker.Worker> => {
      actor.stop()
      if (placesTaken === 0) Deferred.unsafeDone(everyPlaceFree, Exit.void)
      const running = Array.from(jobs.values()).filter((worker) => worker.state.endedAt === undefined)
      running.forEach((worker) => worker.shutDown())
      return running
    }

    const close = Effect.gen(function*() {
      const running = yield* Effect.async<ReadonlyArray<Worker.Worker>>((resume) => {
        // In one turn: a start that still saw the door open has announced its job before this.
        closing = true
        actor.notify({ _tag: "Close", reply: resume })
      })
      const limit = running.map((worker) => Duration.sum(worker.gracePeriod, worker.drainTimeout))
        .reduce(Duration.max, config.drainTimeout)
      yield* Deferred.await(everyPlaceFree).pipe(
        Effect.zipRight(FiberSet.awaitEmpty(storing)),
        Effect.interruptible,
        Effect.timeoutOption(Duration.sum(limit, "1 second"))
      )
      yield* Effect.forEach(running, (worker) => worker.abandon, { discard: true })
      events.end()
      yield* Effect.forEach(jobs.values(), warnOfLoss, { discard: true })
    })

    /** Nobody else will say so: the store may be slow, and the application is about to leave. */
    const warnOfLoss = ({ broadcaster: { archive }, id }: Worker.Worker): Effect.Effect<void> =>
      archive === undefined || archive.missingBytes === 0
        ? Effect.void
        : Effect.logWarning(
          `${archive.missingBytes} bytes of the output of job ${id} are lost: they are not in its store`
        )

    /** Ends a process whose `start` nobody waits for any more. */
    const undo = (worker: Worker.Worker) =>
      worker.stop({ signal: "SIGKILL" }).pipe(
        Effect.zipRight(worker.ended),
        Effect.ignore,
        Effect.zipRight(Effect.sync(worker.broadcaster.remove))
      )

    // Apart from where the spans are: a closure keeps all of its surroundings, and a job keeps this one.
    const tellEnded = (place: Place) => (worker: Worker.Worker) => actor.notify({ _tag: "Ended", worker, place })

    /** Makes the process and all that belongs to it, in the fiber of who asked for it. */
    const makeJob = (spec: JobSpec, place: Place, parent: Tracer.Span) =>
      Effect.suspend(() => {
        const id = JobId.make()
        const maxBytes = spec.output?.maxBytes
        const fork = forkStoring
        const broadcaster = Broadcaster.make({ id, maxBytes, config, store, budget, count, runtime, clock, fork })
        const onEnded = tellEnded(place)
        return Effect.flatMap(Telemetry.jobSpan(id, spec, parent), (span) =>
          Effect.tapErrorCause(
            Worker.start({ id, spec, config, spawner, broadcaster, span, clock, runtime, onEnded }),
            (cause) =>
              Effect.sync(() => {
                broadcaster.remove()
                if (span.current !== undefined) Telemetry.endSpan(span.current, clock, Exit.failCause(cause))
              })
          ))
      })

    const start = (spec: JobSpec) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(Telemetry.startSpan(spec), (span) => {
          const since = clock.unsafeCurrentTimeMillis()
          const place: Place = { state: "wanted" }
          return restore(actor.ask<void, JobLimitReached>((reply) => ({ _tag: "Reserve", place, reply }))).pipe(
            Effect.zipRight(makeJob(spec, place, span)),
            Effect.tapErrorCause(() => Effect.sync(() => actor.notify({ _tag: "Leave", place }))),
            // The caller may have left while the process was made, and the coordinator may have closed. Having just
            // yielded, its fiber will not again before the caller has the id: who leaves from now on knows of the job.
            Effect.tap((worker) => Effect.tapErrorCause(restore(Effect.yieldNow()), () => undo(worker))),
            Effect.flatMap((worker) => {
              if (closing) return Effect.zipRight(undo(worker), Effect.fail(new CoordinatorStopped()))
              actor.notify({ _tag: "Started", worker, since })
              Telemetry.endSpan(span, clock, Exit.void)
              return Effect.succeed(worker.id)
            }),
            Effect.tapErrorCause((cause) => Effect.sync(() => Telemetry.endSpan(span, clock, Exit.failCause(cause))))
          )
        })
      )

    yield* Scope.addFinalizer(scope, close)

    return {
      start,
      find: (id) => actor.query((reply) => ({ _tag: "Find", id, reply })),
      list: (filter) => actor.query((reply) => ({ _tag: "List", filter, reply })),
      remove: (id) => actor.ask((reply) => ({ _tag: "Remove", id, reply })),
      listen: Effect.acquireRelease(
        actor.ask<Listener, never>((reply) => ({ _tag: "Listen", reply })),
        () => Effect.sync(() => actor.notify({ _tag: "Unlisten" }))
      ).pipe(Effect.tap((listener) => listener.subscribe))
    }
  }
)

const matches = (worker: Worker.Worker, filter: Filter): boolean =>
  (filter.status === undefined || worker.state.status._tag === filter.status) &&
  Object.entries(filter.labels ?? {}).every(([name, value]) => worker.spec.labels[name] === value)
