/**
 * Starting processes through `node:child_process`, and letting go of them.
 */
import * as Effect from "effect/Effect"
import { constVoid } from "effect/Function"
import * as Scope from "effect/Scope"
import { type ChildProcess, spawn, type SpawnOptions } from "node:child_process"
import * as Fs from "node:fs"
import { InvalidJobSpec, type JobStartError } from "../JobError.ts"
import * as JobSpec from "../JobSpec.ts"
import type { Process, ProcessListener } from "../ProcessSpawner.ts"
import type { Guardian } from "./guardian.ts"
import { NodeProcess } from "./nodeProcess.ts"
import { ProcessGroup } from "./processGroup.ts"
import * as ProcessTable from "./processTable.ts"
import * as StartError from "./startError.ts"

export interface NodeProcesses {
  readonly spawn: (
    spec: JobSpec.JobSpec,
    listener: ProcessListener
  ) => Effect.Effect<Process, JobStartError | InvalidJobSpec, Scope.Scope>
}

/** Those who make processes share a table of them, and, unless there is to be none, a guardian. */
export const make = (guardian: Guardian | undefined): Effect.Effect<NodeProcesses, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const table = yield* ProcessTable.make
    const onGone = guardian === undefined ? constVoid : guardian.unregister

    const start = (
      spec: JobSpec.JobSpec,
      listener: ProcessListener
    ): Effect.Effect<NodeProcess, JobStartError | InvalidJobSpec> => {
      if (spec.limits !== undefined) {
        return new InvalidJobSpec({ field: "limits", reason: "cannot be set by this spawner" })
      }
      let child: ChildProcess
      try {
        child = spawnChild(spec, guardian)
      } catch (cause) {
        return Effect.fail(StartError.fromErrno(spec, cause, canEnter))
      }
      if (child.pid === undefined) return startFailure(spec, child)
      guardian?.register(child.pid)
      return Effect.succeed(new NodeProcess(child, new ProcessGroup(child.pid, table, onGone), listener))
    }

    const release = (process: NodeProcess): Effect.Effect<void> =>
      Effect.suspend(() => {
        process.release()
        // What dies of that SIGKILL must be forgotten by the guardian as soon as its number is free.
        return guardian === undefined || process.group.look()
          ? Effect.void
          : Effect.forkIn(Effect.interruptible(process.awaitGone), scope)
      })

    return {
      // `acquireRelease` would save and restore the fiber's references, at a tenth of a spawn's cost.
      spawn: (spec, listener) =>
        Effect.uninterruptible(
          Effect.flatMap(
            Effect.scope,
            (scope) => Effect.tap(start(spec, listener), (process) => Scope.addFinalizer(scope, release(process)))
          )
        )
    }
  })

const spawnChild = (spec: JobSpec.JobSpec, guardian: Guardian | undefined): ChildProcess => {
  const env = JobSpec.environment(spec, process.env)
  if (guardian !== undefined) env[guardian.mark] = "1"
  const options: SpawnOptions = {
    cwd: spec.cwd,
    env,
    shell: spec.shell,
    stdio: [spec.stdin, "pipe", "pipe"],
    detached: true
  }
  // Given arguments, Node joins them for the shell just so, but with a warning.
  return spec.shell === false
    ? spawn(spec.command, spec.args, options)
    : spawn([spec.command, ...spec.args].join(" "), options)
}

/** Node reports some failures a moment later, by an event, and leaves the pipes open. */
const startFailure = (spec: JobSpec.JobSpec, child: ChildProcess): Effect.Effect<never, JobStartError> =>
  Effect.async((resume) => {
    child.once("error", (cause) => resume(Effect.fail(StartError.fromErrno(spec, cause, canEnter))))
    // Out of descriptors there are no streams at all, whatever the types say.
    for (const stream of child.stdio ?? []) stream?.destroy()
  })

const canEnter = (directory: string): boolean => {
  try {
    Fs.accessSync(directory, Fs.constants.X_OK)
    return Fs.statSync(directory).isDirectory()
  } catch {
    return false
  }
}
