/**
 * Processes through `node:child_process`, for Node on Linux and other POSIX systems.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NodeProcesses from "./internal/nodeProcesses.ts"
import type { Guarantee } from "./ProcessSpawner.ts"
import { ProcessSpawner } from "./ProcessSpawner.ts"

/**
 * Makes each job's process the leader of a process group of its own, and signals, watches and reaps the whole group.
 *
 * A death by a real-time signal, which Node cannot name, shows as `Exited` with code 0.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<ProcessSpawner> = Layer.scoped(
  ProcessSpawner,
  Effect.map(NodeProcesses.make, (processes) => ({
    get guarantee(): Guarantee {
      return "leader"
    },
    spawn: processes.spawn
  }))
)
