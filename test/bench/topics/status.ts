import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { JobId, JobStatus } from "../../../src/index.ts"
import { specOf, time, withJobs } from "../host.ts"
import { sleep } from "../programs.ts"
import type { Work } from "../work.ts"

const requests = 200_000

/** Microseconds for each request, when so many callers send one after the other. */
const ask = <E>(callers: number, request: Effect.Effect<unknown, E>): Effect.Effect<number, E> => {
  const each = requests / callers
  const caller = Effect.replicateEffect(request, each, { discard: true })
  return Effect.map(
    time(Effect.replicateEffect(caller, callers, { concurrency: "unbounded", discard: true })),
    (ms) => ms * 1000 / requests
  )
}

/** An actor as one would write it: a bounded mailbox, and a `Deferred` in each request. */
const queueAndDeferred = Effect.gen(function*() {
  const id = JobId.make()
  const table = new Map<JobId.JobId, JobStatus.JobStatus>([[id, JobStatus.running]])
  const mailbox = yield* Queue.bounded<
    { readonly id: JobId.JobId; readonly reply: Deferred.Deferred<JobStatus.JobStatus | undefined> }
  >(1024)
  yield* Queue.take(mailbox).pipe(
    Effect.flatMap(({ id, reply }) => Deferred.succeed(reply, table.get(id))),
    Effect.forever,
    Effect.forkScoped
  )
  return Effect.flatMap(
    Deferred.make<JobStatus.JobStatus | undefined>(),
    (reply) => Effect.zipRight(Queue.offer(mailbox, { id, reply }), Deferred.await(reply))
  )
})

const work = (callers: number, ratio: number): Work => ({
  title: `a status request, ${callers} callers`,
  unit: "µs",
  contestants: {
    "joblib": {
      measure: () =>
        withJobs((jobs) => Effect.flatMap(jobs.start(specOf(sleep)), (id) => ask(callers, jobs.status(id))))
    },
    "bounded Queue and Deferred": {
      target: { ratio },
      measure: () =>
        Effect.runPromise(Effect.scoped(Effect.flatMap(queueAndDeferred, (request) => ask(callers, request))))
    }
  }
})

const works: ReadonlyArray<Work> = [work(1, 1 / 3), work(100, 1 / 8)]

export default works
