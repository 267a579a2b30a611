import * as Command from "@effect/platform/Command"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { once } from "node:events"
import { memoryUsage } from "node:process"
import { spawn, specOf, withCommands, withJobs } from "../host.ts"
import { sleep } from "../programs.ts"
import type { Work } from "../work.ts"

const count = 2000

/** Bytes in use, when all that can be collected is. */
const settled = Effect.gen(function*() {
  for (let i = 0; i < 5; i++) {
    yield* Effect.sync(() => globalThis.gc?.())
    yield* Effect.sleep(100)
  }
  return memoryUsage.rss()
})

/** Memory of this process that each job takes, in KiB. The first ones are not counted: they fill the heap's new space. */
const perJob = <E, R>(start: Effect.Effect<unknown, E, R>): Effect.Effect<number, E, R> =>
  Effect.gen(function*() {
    yield* Effect.replicateEffect(start, count / 4, { discard: true })
    const before = yield* settled
    yield* Effect.replicateEffect(start, count, { discard: true })
    return ((yield* settled) - before) / 1024 / count
  })

const works: ReadonlyArray<Work> = [
  {
    title: "memory of an idle job, 2,000 of them",
    unit: "KiB",
    isolated: true,
    warmUps: 0,
    contestants: {
      "joblib": { measure: () => withJobs((jobs) => perJob(jobs.start(specOf(sleep)))) },
      "plain Node, both pipes read": {
        target: { difference: 25 },
        measure: async () => {
          const children: Array<ReturnType<typeof spawn>> = []
          const start = Effect.promise(() => {
            const child = spawn(sleep)
            children.push(child)
            child.stdout.on("data", () => {})
            child.stderr.on("data", () => {})
            return once(child, "spawn")
          })
          const taken = await Effect.runPromise(perJob(start))
          for (const child of children) child.kill("SIGKILL")
          return taken
        }
      },
      "@effect/platform Command, a Stream on each pipe": {
        measure: () => {
          const [command, ...args] = sleep
          return withCommands(
            perJob(Effect.flatMap(Command.start(Command.make(command, ...args)), (child) =>
              Effect.all([
                Effect.forkScoped(Stream.runDrain(child.stdout)),
                Effect.forkScoped(Stream.runDrain(child.stderr))
              ])))
          )
        }
      }
    }
  }
]

export default works
