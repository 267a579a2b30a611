/**
 * How a job is started, in the fiber of who asks for it.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Tracer from "effect/Tracer"
import { CoordinatorStopped, type InvalidJobSpec, type JobLimitReached, type JobStartError } from "../../JobError.ts"
import * as JobId from "../../JobId.ts"
import type { JobSpec } from "../../JobSpec.ts"
import * as Broadcaster from "../output/broadcaster.ts"
import * as Telemetry from "../telemetry/telemetry.ts"
import { monotonic } from "../time/monotonic.ts"
import { infoOf } from "../worker/jobInfo.ts"
import * as Worker from "../worker/worker.ts"
import { Place } from "./places.ts"

/** What it takes of the coordinator. */
export interface Starting {
  readonly shared: Broadcaster.Shared & Worker.Shared
  readonly isClosing: () => boolean
  readonly reserve: (place: Place) => Effect.Effect<void, JobLimitReached | CoordinatorStopped>
  readonly leave: (place: Place) => void
  readonly announce: (worker: Worker.Worker, place: Place) => void
  readonly tellEnded: (worker: Worker.Worker, place: Place) => void
}

export const start = (
  spec: JobSpec,
  starting: Starting
): Effect.Effect<JobId.JobId, JobStartError | InvalidJobSpec | JobLimitReached | CoordinatorStopped> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Telemetry.startSpan(spec), (span) => {
      const { clock } = starting.shared
      const since = monotonic(clock)
      const place = new Place()
      return restore(starting.reserve(place)).pipe(
        Effect.zipRight(makeJob(spec, place, span, starting)),
        Effect.tapErrorCause(() => Effect.sync(() => starting.leave(place))),
        // The caller may have left while the process was made, and the coordinator may have closed. Having just
        // yielded, its fiber will not again before the caller has the id: who leaves from now on knows of the job.
        Effect.tap((worker) => Effect.tapErrorCause(restore(Effect.yieldNow()), () => undo(worker, starting))),
        Effect.flatMap((worker) => {
          if (starting.isClosing()) {
            return Effect.zipRight(undo(worker, starting), Effect.fail(new CoordinatorStopped()))
          }
          starting.announce(worker, place)
          Telemetry.jobStarted(monotonic(clock) - since)
          Telemetry.endSpan(span, clock, Exit.void)
          return Effect.succeed(worker.id)
        }),
        Effect.tapErrorCause((cause) => Effect.sync(() => Telemetry.endSpan(span, clock, Exit.failCause(cause))))
      )
    })
  )

/** Makes the process and all that belongs to it. */
const makeJob = (spec: JobSpec, place: Place, parent: Tracer.Span | undefined, { shared, tellEnded }: Starting) =>
  Effect.suspend(() => {
    const id = JobId.make()
    const onEnded = endedAt(place, tellEnded)
    return Effect.flatMap(
      Telemetry.jobSpan(id, spec, parent),
      (span) =>
        Effect.flatMap(
          Broadcaster.make(id, spec.output?.maxBytes, shared),
          (broadcaster) =>
            Effect.tapErrorCause(Worker.start({ id, spec, broadcaster, span, onEnded }, shared), (cause) =>
              Effect.sync(() => {
                broadcaster.remove()
                Telemetry.failJobSpan(span, shared.clock, cause)
              }))
        )
    )
  })

// Apart from where the spans are: a closure keeps all of its surroundings, and a job keeps this one.
const endedAt = (place: Place, tellEnded: Starting["tellEnded"]) => (worker: Worker.Worker) => tellEnded(worker, place)

/** Ends a process whose `start` nobody waits for any more. */
const undo = (worker: Worker.Worker, { shared }: Starting) =>
  worker.stop({ signal: "SIGKILL" }).pipe(
    Effect.zipRight(worker.ended),
    Effect.ignore,
    Effect.zipRight(Effect.sync(() => {
      worker.broadcaster.remove()
      Telemetry.endJobSpan(worker.span, shared.clock, infoOf(worker))
    }))
  )
