/**
 * Writes to the standard input of a job.
 */
import * as Effect from "effect/Effect"
import * as Sink from "effect/Sink"
import { InputClosed, JobAlreadyEnded } from "../../JobError.ts"
import type { Worker } from "./worker.ts"

export const sink = (worker: Worker): Sink.Sink<void, Uint8Array, never, InputClosed | JobAlreadyEnded> =>
  Sink.unwrap(Effect.as(
    whileOpen(worker, Effect.succeed(worker.spec.stdin === "pipe")),
    Sink.forEach((bytes: Uint8Array) => whileOpen(worker, worker.process.writeInput(bytes))).pipe(
      Sink.mapEffect(() => worker.process.closeInput)
    )
  ))

const whileOpen = (
  worker: Worker,
  isOpen: Effect.Effect<boolean>
): Effect.Effect<void, InputClosed | JobAlreadyEnded> =>
  Effect.flatMap(isOpen, (open): Effect.Effect<void, InputClosed | JobAlreadyEnded> => {
    if (worker.state.endedAt !== undefined) return new JobAlreadyEnded({ id: worker.id })
    return open ? Effect.void : new InputClosed({ id: worker.id })
  })
