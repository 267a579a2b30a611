import * as Command from "@effect/platform/Command"
import * as Effect from "effect/Effect"
import { constVoid } from "effect/Function"
import * as Stream from "effect/Stream"
import { execa } from "execa"
import { once } from "node:events"
import { spawn, specOf, time, timePromise, withCommands, withJobs } from "../host.ts"
import { nothing } from "../programs.ts"
import type { Contestant, Work } from "../work.ts"

const atOnce = 8

/** Calls a function so often, by eight runners that take the next call when they are done with one. */
const repeat = (count: number, run: () => Promise<unknown>): Promise<number> =>
  timePromise(async () => {
    let left = count
    const runner = async () => {
      while (left-- > 0) await run()
    }
    await Promise.all(Array.from({ length: atOnce }, runner))
  })

/** The same with an effect. */
const repeatEffect = <E, R>(count: number, run: Effect.Effect<unknown, E, R>): Effect.Effect<number, E, R> => {
  let left = count
  const runner = Effect.whileLoop({ while: () => left-- > 0, body: () => run, step: constVoid })
  return time(Effect.replicateEffect(runner, atOnce, { concurrency: "unbounded", discard: true }))
}

const perJob = (count: number, measure: () => Promise<number>): () => Promise<number> => async () =>
  await measure() / count

/** Every child's pipes are read to the end, by each contestant in the same process. */
export const contestants = (jobs: number): Record<string, Contestant> => ({
  "joblib": {
    measure: perJob(jobs, () =>
      withJobs(({ start, wait }) => {
        const spec = specOf(nothing)
        return repeatEffect(jobs, Effect.flatMap(start(spec), wait))
      }))
  },
  "plain Node, detached": {
    target: { ratio: 1.35 },
    measure: perJob(jobs, () =>
      repeat(jobs, () => {
        const child = spawn(nothing)
        child.stdout.resume()
        child.stderr.resume()
        return once(child, "close")
      }))
  },
  "execa, buffer: false": {
    target: { ratio: 1 },
    measure: perJob(jobs, () =>
      repeat(jobs, () => {
        const child = execa("true", { buffer: false, stdin: "ignore", detached: true })
        child.stdout.resume()
        child.stderr.resume()
        return child
      }))
  },
  "@effect/platform Command, both streams": {
    measure: perJob(jobs, () =>
      withCommands(repeatEffect(
        jobs,
        Effect.scoped(Effect.flatMap(Command.start(Command.make("true")), (child) =>
          Effect.all([Stream.runDrain(child.stdout), Stream.runDrain(child.stderr), child.exitCode], {
            concurrency: "unbounded",
            discard: true
          })))
      )))
  }
})

const works: ReadonlyArray<Work> = [
  { title: "start `true` and await its end, 2,000 jobs, 8 at once", unit: "ms", contestants: contestants(2000) }
]

export default works
