/**
 * What the tests share.
 */
import * as Chunk from "effect/Chunk"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { randomUUID } from "node:crypto"
import { JobConfig, JobCoordinator, type Output, type ProcessSpawner, SimulatedProcesses } from "../src/index.ts"
import * as NodeProcessSpawner from "../src/NodeProcessSpawner.ts"
import * as Processes from "./fixtures/processes.ts"

/** The capacity of every mailbox under test: `JOBLIB_TEST_CAPACITY=1` runs the whole suite with the smallest. */
const capacity = Config.option(Config.integer("JOBLIB_TEST_CAPACITY"))

/** Settings under which a layer is tested. */
export const settings = (partial: JobConfig.PartialSettings = {}): Layer.Layer<never> =>
  Layer.unwrapEffect(
    Effect.orDie(Effect.map(capacity, (mailboxCapacity) =>
      JobConfig.layer(
        mailboxCapacity._tag === "Some" ? { mailboxCapacity: mailboxCapacity.value, ...partial } : partial
      )))
  )

/** A coordinator of whatever a spawner makes. */
export const over = <A>(
  spawner: Layer.Layer<A | ProcessSpawner.ProcessSpawner>,
  partial: JobConfig.PartialSettings = {}
): Layer.Layer<A | ProcessSpawner.ProcessSpawner | JobCoordinator.JobCoordinator> =>
  JobCoordinator.layer.pipe(Layer.provideMerge(spawner), Layer.provide(settings(partial)))

/** A coordinator of real processes. */
export const live = (partial?: JobConfig.PartialSettings) => over(NodeProcessSpawner.layer, partial)

/** A coordinator of simulated processes. */
export const simulated = (
  scripts: Parameters<typeof SimulatedProcesses.layer>[0],
  partial?: JobConfig.PartialSettings
) => over(SimulatedProcesses.layer(scripts), partial)

export const trace = Effect.flatMap(SimulatedProcesses.SimulatedProcesses, (_) => _.trace)

/** Which pids of the simulation live. */
export const simulatedAlive = Effect.map(trace, (entries) => {
  const alive = new Set<number>()
  for (const { _tag, pid } of entries) {
    if (_tag === "Spawned") alive.add(pid)
    else if (_tag === "Exited") alive.delete(pid)
  }
  return alive
})

/** Lets everything happen that waits for nothing but the event loop. */
export const settle = Effect.zipRight(
  Effect.promise(() => new Promise((resolve) => setImmediate(resolve))),
  Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
)

/** Waits for something that the event loop brings about. */
export const until = (condition: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() => condition() ? Effect.void : Effect.zipRight(settle, until(condition)))

/** A variable that every job carries from now on; `alive` finds those that are left. */
export const mark = (): { readonly alive: () => ReadonlyArray<number> } => {
  const token = randomUUID()
  process.env["JOBLIB_TEST_MARK"] = token
  return { alive: () => Processes.carrying(token) }
}

/** The bytes of a stream of chunks, as Latin-1 text. */
export const textOf = <E, R>(output: Stream.Stream<Output.OutputChunk, E, R>): Effect.Effect<string, E, R> =>
  Effect.map(Stream.runCollect(output), (chunks) => latin1(Chunk.map(chunks, (_) => _.bytes)))

export const latin1 = (chunks: Iterable<Uint8Array>): string => Buffer.concat(Array.from(chunks)).toString("latin1")
