/**
 * Starting processes through `node:child_process`.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { InvalidJobSpec, type JobStartError } from "../JobError.ts"
import * as JobSpec from "../JobSpec.ts"
import type { Process, ProcessListener } from "../ProcessSpawner.ts"
import { NodeProcess } from "./nodeProcess.ts"
import { ProcessGroup } from "./processGroup.ts"
import * as ProcessTable from "./processTable.ts"
import * as StartError from "./startError.ts"

export const make = Effect.gen(function*() {
  const table = yield* ProcessTable.make

  const start = (spec: JobSpec.JobSpec, listener: ProcessListener): Effect.Effect<NodeProcess, JobStartError> =>
    Effect.suspend(() => {
      let child: ChildProcess
      try {
        child = spawnChild(spec)
      } catch (cause) {
        return Effect.fail(StartError.fromErrno(spec, cause))
      }
      return child.pid === undefined
        ? startFailure(spec, child)
        : Effect.succeed(
          new NodeProcess(child.pid, child, new ProcessGroup(child.pid, table, () => {}), listener)
        )
    })

  return {
    spawn: (
      spec: JobSpec.JobSpec,
      listener: ProcessListener
    ): Effect.Effect<Process, JobStartError | InvalidJobSpec, Scope.Scope> =>
      spec.limits === undefined
        ? Effect.acquireRelease(start(spec, listener), (process) => Effect.sync(() => process.release()))
        : new InvalidJobSpec({ field: "limits", reason: "cannot be set by this spawner" })
  }
})

const spawnChild = (spec: JobSpec.JobSpec): ChildProcess =>
  spawn(
    // Node joins the words for a shell as well, but warns of it.
    spec.shell === false ? spec.command : [spec.command, ...spec.args].join(" "),
    spec.shell === false ? spec.args : [],
    {
      cwd: spec.cwd,
      env: JobSpec.environment(spec, process.env),
      shell: spec.shell,
      stdio: [spec.stdin, "pipe", "pipe"],
      detached: true
    }
  )

/** Node reports some failures a moment later, by an event, and leaves the pipes open. */
const startFailure = (spec: JobSpec.JobSpec, child: ChildProcess): Effect.Effect<never, JobStartError> =>
  Effect.async((resume) => {
    child.once("error", (cause) => resume(Effect.fail(StartError.fromErrno(spec, cause))))
    // Without a descriptor left, there are no streams, whatever the types say.
    for (const stream of child.stdio ?? []) stream?.destroy()
  })
