/**
 * What the contestants share: our coordinator, plain Node, and a stopwatch.
 */
import * as NodeCommandExecutor from "@effect/platform-node/NodeCommandExecutor"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import type { CommandExecutor } from "@effect/platform/CommandExecutor"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import type { Readable } from "node:stream"
import { JobConfig, JobCoordinator, JobSpec, NodeProcessSpawner } from "../../src/index.ts"
import type { Program } from "./programs.ts"

/** All output is kept: nobody falls behind. */
const everything = JobConfig.layer({ output: { maxBytesPerJob: Infinity, maxBytes: Infinity } })

const coordinator = JobCoordinator.layer.pipe(Layer.provide(NodeProcessSpawner.layer), Layer.provide(everything))

/** Runs with a coordinator of its own. */
export const withJobs = <A, E>(
  use: (jobs: JobCoordinator.JobCoordinator["Type"]) => Effect.Effect<A, E, Scope.Scope>
): Promise<A> =>
  JobCoordinator.JobCoordinator.pipe(
    Effect.flatMap(use),
    Effect.scoped,
    Effect.provide(coordinator),
    Effect.runPromise
  )

const commands = NodeCommandExecutor.layer.pipe(Layer.provide(NodeFileSystem.layer))

export const withCommands = <A, E>(use: Effect.Effect<A, E, CommandExecutor | Scope.Scope>): Promise<A> =>
  use.pipe(Effect.scoped, Effect.provide(commands), Effect.runPromise)

export const specOf = ([command, ...args]: Program): JobSpec.JobSpec => JobSpec.make({ command, args })

/** As a job is started: detached, no input, two pipes. */
export const spawn = ([command, ...args]: Program): ChildProcess.ChildProcessByStdio<null, Readable, Readable> =>
  ChildProcess.spawn(command, args, { detached: true, stdio: ["ignore", "pipe", "pipe"] })

/** How long it takes, in milliseconds. */
export const time = <E, R>(work: Effect.Effect<unknown, E, R>): Effect.Effect<number, E, R> =>
  Effect.suspend(() => {
    const start = performance.now()
    return Effect.map(work, () => performance.now() - start)
  })

export const timePromise = async (work: () => Promise<unknown>): Promise<number> => {
  const start = performance.now()
  await work()
  return performance.now() - start
}

/** Whoever has lost bytes has not done the work. */
export const expectBytes = (expected: number, actual: number): void => {
  if (actual !== expected) throw new Error(`${actual} bytes instead of ${expected}`)
}
