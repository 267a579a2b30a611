/**
 * Processes through `node:child_process`, for Node on Linux and other POSIX systems.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Guardian from "./internal/process/guardian.ts"
import * as NodeProcesses from "./internal/process/nodeProcesses.ts"
import { JobConfig } from "./JobConfig.ts"
import { type Guarantee, ProcessSpawner } from "./ProcessSpawner.ts"

/**
 * Makes each process the leader of a process group of its own, and signals, watches and reaps the whole group. A
 * guardian, one small helper process, ends all groups should the host die; without it (`JobConfig.guardian: "off"`,
 * when it is lost, or where `/bin/sh` is missing or unable) `guarantee` is `"leader"` instead of `"group"`.
 *
 * Jobs get pipes of the kernel, where Node would give them sockets; a small shell makes them, on Linux. Elsewhere, and where
 * it cannot (for want of `/proc`, or of a `/bin/sh` that has pipes for here-documents), they get sockets.
 *
 * Node does not tell of a death by a real-time signal (SIGRTMIN to SIGRTMAX): it shows as `Exited` with code 0, though it
 * is no success.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<ProcessSpawner> = Layer.scoped(
  ProcessSpawner,
  Effect.gen(function*() {
    const { guardian: wanted } = yield* JobConfig
    const guardian = wanted === "on" ? yield* Guardian.make : undefined
    const { spawn } = yield* NodeProcesses.make(guardian)
    return {
      get guarantee(): Guarantee {
        return guardian?.isAlive === true ? "group" : "leader"
      },
      spawn
    }
  })
)
