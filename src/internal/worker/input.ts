/**
 * Writes to the standard input of a job.
 */
import * as Effect from "effect/Effect"
import * as Sink from "effect/Sink"
import { InputClosed, JobAlreadyEnded } from "../../JobError.ts"
import type { Worker } from "./worker.ts"

export const sink = (worker: Worker): Sink.Sink<void, Uint8Array, never, InputClosed | JobAlreadyEnded> =>
  Sink.unwrap(Effect.as(
    expect(worker, Effect.sync(() => worker.spec.stdin === "pipe" && worker.state.endedAt === undefined)),
    Sink.forEach((bytes: Uint8Array) => expect(worker, worker.process.writeInput(bytes))).pipe(
      Sink.mapEffect(() => worker.process.closeInput)
    )
  ))

/** What was taken was taken, even if the job has ended because of it. */
const expect = (worker: Worker, isTaken: Effect.Effect<boolean>): Effect.Effect<void, InputClosed | JobAlreadyEnded> =>
  Effect.flatMap(isTaken, (taken): Effect.Effect<void, InputClosed | JobAlreadyEnded> => {
    if (taken) return Effect.void
    return worker.state.endedAt === undefined
      ? new InputClosed({ id: worker.id })
      : new JobAlreadyEnded({ id: worker.id })
  })
