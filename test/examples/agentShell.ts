/**
 * The background shells of a coding agent, as the tools that its model calls: start one, read what is new, type
 * something, kill it, list them. What a tool answers is short text. When the session's scope closes, all of it ends.
 */
import { Effect, Option, type Scope, Stream } from "effect"
import { randomUUID } from "node:crypto"
import { JobCoordinator, type JobError, type JobId, JobSpec, JobStatus, OutputCursor } from "../../src/index.ts"

export interface Shells {
  readonly start: (commandLine: string) => Effect.Effect<JobId.JobId, JobError.StartError>
  /** What came since the last poll, at most 30,000 bytes of it, and how the shell is doing. Never waits. */
  readonly poll: (id: JobId.JobId) => Effect.Effect<string, JobCoordinator.OutputError>
  /** Types a text; a line ends with `\n`. */
  readonly send: (
    id: JobId.JobId,
    text: string
  ) => Effect.Effect<
    void,
    JobError.JobNotFound | JobError.JobAlreadyEnded | JobError.InputClosed | JobError.CoordinatorStopped
  >
  readonly kill: (id: JobId.JobId) => Effect.Effect<string, JobError.JobNotFound | JobError.CoordinatorStopped>
  /** A line for each shell of this session. */
  readonly list: Effect.Effect<string, JobError.CoordinatorStopped>
}

export const make: Effect.Effect<Shells, never, JobCoordinator.JobCoordinator | Scope.Scope> = Effect.gen(function*() {
  const context = yield* Effect.context<JobCoordinator.JobCoordinator>()
  const jobs = yield* JobCoordinator.JobCoordinator
  const labels = { session: randomUUID() }
  const cursors = new Map<JobId.JobId, OutputCursor.OutputCursor>()
  yield* Effect.addFinalizer(() => Effect.ignore(JobCoordinator.stopAll({ labels })))

  const poll = (id: JobId.JobId) =>
    Effect.gen(function*() {
      const cursor = cursors.get(id) ?? OutputCursor.make()
      const page = yield* OutputCursor.read(id, cursor, { maxBytes: 30_000, whenBehind: "skip" })
      cursors.set(id, page.cursor)
      const skipped = Option.match(page.skipped, {
        onNone: () => "",
        onSome: ({ from, to }) => `[${to - from} bytes were too old]\n`
      })
      const text = page.output.map(({ text }) => text).join("")
      const state = page.hasMore ? "there is more" : JobStatus.format(yield* jobs.status(id))
      return `${skipped}${text}\n[${state}]`
    })

  return {
    start: (commandLine) => jobs.start(JobSpec.make({ command: commandLine, shell: true, stdin: "pipe", labels })),
    poll: (id) => Effect.provide(poll(id), context),
    send: (id, text) =>
      Stream.make(text).pipe(
        Stream.encodeText,
        // The input of a job is closed by the end of a stream, but not by its failure.
        Stream.concat(Stream.fail("stay open" as const)),
        Stream.run(jobs.input(id)),
        Effect.catchIf((error) => error === "stay open", () => Effect.void)
      ),
    kill: (id) =>
      jobs.stop(id, { gracePeriod: "2 seconds" }).pipe(
        Effect.catchTag("JobAlreadyEnded", () => jobs.status(id)),
        Effect.map(JobStatus.format)
      ),
    list: Effect.map(
      jobs.list({ labels }),
      (infos) => infos.map(({ id, spec, status }) => `${id}: ${spec.command} [${JobStatus.format(status)}]`).join("\n")
    )
  }
})
