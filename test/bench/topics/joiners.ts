import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { expectBytes, specOf, time, withJobs } from "../host.ts"
import { bytes } from "../programs.ts"
import type { Contestant, Work } from "../work.ts"

const joiners = 3600
const size = 2 ** 20

/** As many fibers, each of which runs a stream and keeps what it gets until all have it. */
const runAll = <E>(stream: Stream.Stream<{ readonly bytes: Uint8Array }, E>, size: number) =>
  Effect.map(Effect.replicateEffect(Stream.runCollect(stream), joiners, { concurrency: "unbounded" }), (all) => {
    for (const chunks of all) expectBytes(size, Chunk.reduce(chunks, 0, (sum, { bytes }) => sum + bytes.length))
  })

const joinEnded = (size: number, measure: (join: Effect.Effect<void, unknown>) => Effect.Effect<number, unknown>) =>
  withJobs((jobs) =>
    Effect.gen(function*() {
      const id = yield* jobs.start(specOf(bytes(size)))
      yield* jobs.wait(id)
      return yield* measure(runAll(jobs.output(id), size))
    })
  )

const peakMemory = (join: Effect.Effect<void, unknown>) => Effect.map(join, () => process.resourceUsage().maxRSS / 1024)

const memory = (size: number): Contestant => ({ measure: () => joinEnded(size, peakMemory) })

const works: ReadonlyArray<Work> = [
  {
    title: `${joiners} subscribers join a job that ended with 1 MiB`,
    unit: "ms",
    contestants: {
      "joblib": { measure: () => joinEnded(size, time) },
      "as many fibers, each a Stream of a ready Chunk": {
        target: { ratio: 1.2 },
        measure: () => {
          const chunk = Chunk.fromIterable(Array.from({ length: 16 }, () => ({ bytes: new Uint8Array(size / 16) })))
          return Effect.runPromise(time(runAll(Stream.fromChunk(chunk), size)))
        }
      }
    }
  },
  {
    title: `peak memory of a process where ${joiners} subscribers join a job that ended with 1 MiB`,
    unit: "MiB",
    isolated: true,
    warmUps: 0,
    contestants: {
      "1 MiB": memory(size),
      "12 bytes": { ...memory(12), target: { difference: 16 } }
    }
  }
]

export default works
