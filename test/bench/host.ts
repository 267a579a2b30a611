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
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Readable } from "node:stream"
import {
  JobConfig,
  JobCoordinator,
  JobSpec,
  NodeProcessSpawner,
  OutputStore,
  type ProcessSpawner
} from "../../src/index.ts"
import type { Program } from "./programs.ts"

/** All output is kept: nobody falls behind. */
const everything = JobConfig.layer({ output: { maxBytesPerJob: Infinity, maxBytes: Infinity } })

type Run = <A, E>(
  use: (jobs: JobCoordinator.JobCoordinator["Type"]) => Effect.Effect<A, E, Scope.Scope>
) => Promise<A>

const running =
  (coordinator: Layer.Layer<JobCoordinator.JobCoordinator, never, ProcessSpawner.ProcessSpawner>): Run => (use) =>
    JobCoordinator.JobCoordinator.pipe(
      Effect.flatMap(use),
      Effect.scoped,
      Effect.provide(coordinator.pipe(Layer.provide(NodeProcessSpawner.layer), Layer.provide(everything))),
      Effect.runPromise
    )

/** Runs with a coordinator of its own. */
export const withJobs: Run = running(JobCoordinator.layer)

/** The same with output in files, which are gone afterwards. */
export const withFiles: Run = async (use) => {
  const directory = await mkdtemp(join(tmpdir(), "joblib-bench-"))
  const store = OutputStore.layerFileSystem({ directory }).pipe(Layer.provide(NodeFileSystem.layer))
  try {
    return await running(Layer.provide(JobCoordinator.layerWithStore, store))(use)
  } finally {
    await rm(directory, { recursive: true })
  }
}

const commands = NodeCommandExecutor.layer.pipe(Layer.provide(NodeFileSystem.layer))

export const withCommands = <A, E>(use: Effect.Effect<A, E, CommandExecutor | Scope.Scope>): Promise<A> =>
  use.pipe(Effect.scoped, Effect.provide(commands), Effect.runPromise)

export const specOf = ([command, ...args]: Program, transport?: "pipe" | "socket"): JobSpec.JobSpec =>
  JobSpec.make({ command, args, transport })

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
