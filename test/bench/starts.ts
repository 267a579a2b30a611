/**
 * Libraries that start `true`, listen to both its outputs, and wait for its end.
 */
import * as Command from "@effect/platform/Command"
import * as Effect from "effect/Effect"
import { constVoid } from "effect/Function"
import * as Stream from "effect/Stream"
import { execa } from "execa"
import { specOf, time, withCommands, withJobs } from "./host.ts"
import { repeat } from "./plainNode.ts"
import { nothing } from "./programs.ts"

const atOnce = 8

/** The same as `repeat` with an effect. */
const repeatEffect = <E, R>(count: number, run: Effect.Effect<unknown, E, R>): Effect.Effect<number, E, R> => {
  let left = count
  const runner = Effect.whileLoop({ while: () => left-- > 0, body: () => run, step: constVoid })
  const work = Effect.replicateEffect(runner, atOnce, { concurrency: "unbounded", discard: true })
  return Effect.map(time(work), (millis) => millis / count)
}

export const joblib = (jobs: number): Promise<number> =>
  withJobs(({ start, wait }) => repeatEffect(jobs, Effect.flatMap(start(specOf(nothing)), wait)))

export const command = (jobs: number): Promise<number> =>
  withCommands(repeatEffect(
    jobs,
    Effect.scoped(Effect.flatMap(Command.start(Command.make("true")), (child) =>
      Effect.all([Stream.runDrain(child.stdout), Stream.runDrain(child.stderr), child.exitCode], {
        concurrency: "unbounded",
        discard: true
      })))
  ))

export const byExeca = (jobs: number): Promise<number> =>
  repeat(jobs, () => {
    const child = execa("true", { buffer: false, stdin: "ignore", detached: true })
    child.stdout.resume()
    child.stderr.resume()
    return child
  })
