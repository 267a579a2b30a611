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
 * Makes each job's first process the leader of a process group of its own, and signals and watches the whole group. A
 * guardian, one small helper process, ends all groups if the host dies. Without a guardian, `guarantee` is `"leader"`
 * instead of `"group"`: with `JobConfig.guardian: "off"`, after the guardian was lost, or where `/bin/sh` is missing or
 * unable.
 *
 * On Linux, jobs get pipes of the kernel, where Node alone would give them sockets. A small shell makes the pipes.
 * Where it cannot, because there is no `/proc` or `/bin/sh` has no pipes for here-documents, and on other systems, jobs
 * get sockets.
 *
 * Node does not report a death by a real-time signal (SIGRTMIN to SIGRTMAX). It shows as `Exited` with code 0, although
 * it is no success.
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
