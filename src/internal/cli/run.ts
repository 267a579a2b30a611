/**
 * Runs one job in the place of this process: its input, output, signals and exit code become the job's.
 *
 * @internal
 */
import * as NodeStream from "@effect/platform-node/NodeStream"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { constants } from "node:os"
import type { Writable } from "node:stream"
import { isatty } from "node:tty"
import { JobCoordinator } from "../../JobCoordinator.ts"
import type { JobId } from "../../JobId.ts"
import type { JobSpec } from "../../JobSpec.ts"
import * as JobStatus from "../../JobStatus.ts"
import type { OutputSource } from "../../Output.ts"

class WriteError extends Schema.TaggedError<WriteError>("joblib/WriteError")("WriteError", {
  target: Schema.String,
  cause: Schema.Defect
}) {
  override get message(): string {
    return `Cannot write to ${this.target}: ${this.cause instanceof Error ? this.cause.message : String(this.cause)}`
  }

  get isReaderGone(): boolean {
    return this.cause instanceof Error && "code" in this.cause && this.cause.code === "EPIPE"
  }
}

/** A terminal stays with this process: the job is not in its foreground, and could not read it. */
export const stdin = (): JobSpec["stdin"] => isatty(0) ? "ignore" : "pipe"

/** Runs the job and gives its exit code: its own, or 128 and the number of the signal that killed it. */
export const runAttached = (spec: JobSpec) =>
  Effect.scoped(Effect.gen(function*() {
    const signals = yield* receiveSignals
    const jobs = yield* JobCoordinator
    const id = yield* jobs.start(spec)
    if (spec.stdin === "pipe") yield* Effect.forkScoped(copyInput(id))
    yield* Effect.raceFirst(
      Effect.all([copyOutput(id, "stdout"), copyOutput(id, "stderr")], { concurrency: "unbounded" }),
      forwardSignals(id, signals)
    )
    return exitCode(yield* jobs.wait(id))
  }))

const exitCode = (status: JobStatus.Ended): number =>
  status._tag === "Exited" ? status.code : 128 + (constants.signals[status.signal as NodeJS.Signals] ?? 0)

const receiveSignals = Effect.gen(function*() {
  const signals = yield* Queue.unbounded<"SIGINT" | "SIGTERM">()
  const receive = (signal: "SIGINT" | "SIGTERM") => signals.unsafeOffer(signal)
  yield* Effect.acquireRelease(
    Effect.sync(() => process.on("SIGINT", receive).on("SIGTERM", receive)),
    () => Effect.sync(() => process.off("SIGINT", receive).off("SIGTERM", receive))
  )
  return signals
})

/**
 * The first signal stops the job, a further one kills it, and one after its end gives up what has not been written.
 */
const forwardSignals = (id: JobId, signals: Queue.Dequeue<"SIGINT" | "SIGTERM">) =>
  Effect.flatMap(JobCoordinator, (jobs) =>
    Stream.fromQueue(signals).pipe(
      Stream.zipWithIndex,
      Stream.mapEffect(([signal, index]) => jobs.stop(id, { signal: index === 0 ? signal : "SIGKILL" }), {
        concurrency: "unbounded"
      }),
      Stream.runDrain,
      Effect.catchTag("JobAlreadyEnded", () => Effect.void)
    ))

/** What cannot be read is at its end; a job that has closed its input wants no more. */
const copyInput = (id: JobId) =>
  Effect.flatMap(JobCoordinator, (jobs) =>
    NodeStream.fromReadable(() => process.stdin, (error) => error).pipe(
      Stream.catchAll(() => Stream.empty),
      Stream.run(jobs.input(id)),
      Effect.ignore
    ))

/** As with a plain pipe, a slow reader slows the job, and a reader that leaves stops it. */
const copyOutput = (id: JobId, source: OutputSource) =>
  Effect.flatMap(JobCoordinator, (jobs) =>
    jobs[source](id, { whenBehind: "block" }).pipe(
      Stream.runForEachChunk((chunk) => write(source, chunk)),
      Effect.catchTag("WriteError", (error) =>
        Effect.zipRight(Effect.ignore(jobs.stop(id)), error.isReaderGone ? Effect.void : Effect.fail(error)))
    ))

const write = (target: OutputSource, chunk: Chunk.Chunk<Uint8Array>) =>
  Effect.async<void, WriteError>((resume) => {
    const stream: Writable = process[target]
    const done = (cause?: Error | null) => resume(cause ? Effect.fail(new WriteError({ target, cause })) : Effect.void)
    stream.cork()
    Chunk.forEach(chunk, (bytes, index) => stream.write(bytes, index === chunk.length - 1 ? done : undefined))
    stream.uncork()
  })
