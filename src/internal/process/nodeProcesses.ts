/**
 * Starting processes through `node:child_process`, and letting go of them.
 */
import * as Effect from "effect/Effect"
import { constVoid } from "effect/Function"
import * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import type { InvalidJobSpec, JobStartError } from "../../JobError.ts"
import * as JobSpec from "../../JobSpec.ts"
import type { Process, ProcessListener } from "../../ProcessSpawner.ts"
import type { Cgroup } from "./cgroup.ts"
import * as Cgroups from "./cgroups.ts"
import { CgroupTree } from "./cgroupTree.ts"
import * as Descriptors from "./descriptors.ts"
import type { Guardian } from "./guardian.ts"
import * as Limits from "./limits.ts"
import { NodeProcess } from "./nodeProcess.ts"
import * as Pipes from "./pipes.ts"
import { ProcessGroup } from "./processGroup.ts"
import * as ProcessTable from "./processTable.ts"
import * as Program from "./program.ts"
import * as Prologue from "./prologue.ts"
import * as StartError from "./startError.ts"
import { StartQueue } from "./startQueue.ts"
import * as Stdio from "./stdio.ts"

export interface NodeProcesses {
  readonly spawn: (
    spec: JobSpec.JobSpec,
    listener: ProcessListener
  ) => Effect.Effect<Process, JobStartError | InvalidJobSpec, Scope.Scope>
}

/** Those who make processes share a table of them, and, if there are to be any, a guardian and a place for cgroups. */
export const make = (
  guardian: Guardian | undefined,
  cgroups?: Cgroups.Cgroups
): Effect.Effect<NodeProcesses, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const table = yield* ProcessTable.make
    const onGone = guardian === undefined ? constVoid : guardian.unregister
    const pipes = yield* Pipes.make(() => queue.wake())
    const queue = new StartQueue(pipes.isReady)
    const turn = Effect.interruptible(queue.turn)
    let hasRunOut = false

    /** Throws what Node does. */
    const spawnIn = (
      stdio: Stdio.Stdio,
      spec: JobSpec.JobSpec,
      listener: ProcessListener,
      cgroup: Cgroup | undefined
    ): Effect.Effect<Started, JobStartError | InvalidJobSpec> => {
      const steps = [
        ...(cgroup === undefined ? [] : [Cgroups.join(cgroup, spec)]),
        ...(spec.limits === undefined ? [] : Limits.steps(spec.limits)),
        ...stdio.steps
      ]
      const program = Program.of(spec)
      // Node loses the pipes of a start that runs out of descriptors after them: that may happen once, not each time.
      if (hasRunOut) Descriptors.expectEnough()
      const child = spawnChild(spec, program, steps, stdio, guardian)
      if (child.pid === undefined) {
        // Out of descriptors, Node makes no streams at all, whatever the types say.
        hasRunOut ||= child.stdio as unknown === undefined
        return startFailure(spec, child)
      }
      guardian?.register(child.pid)
      const group = new ProcessGroup(child.pid, table, onGone)
      const tree = cgroup === undefined ? group : new CgroupTree(group, cgroup)
      return Effect.succeed({
        process: new NodeProcess(child, stdio.connect(child), tree, listener),
        ready: steps.length === 0 ? undefined : Prologue.begin(steps, child, child.pid)
      })
    }

    const start = (
      spec: JobSpec.JobSpec,
      listener: ProcessListener,
      cgroup?: Cgroup
    ): Effect.Effect<Started, JobStartError | InvalidJobSpec> =>
      Effect.suspend(() => {
        const since = performance.now()
        let stdio: Stdio.Stdio | undefined
        try {
          if (spec.transport !== "socket") stdio = Stdio.pipes(spec, pipes)
          // There may have been none because of something that is mended.
          if (stdio === undefined && !pipes.isReady()) return Effect.zipRight(turn, start(spec, listener, cgroup))
          stdio ??= Stdio.sockets(spec)
          return spawnIn(stdio, spec, listener, cgroup)
        } catch (cause) {
          return Effect.fail(StartError.fromErrno(spec, cause, Program.surroundings))
        } finally {
          stdio?.closeUnused()
          queue.spend(performance.now() - since)
        }
      })

    const startInCgroup = (spec: JobSpec.JobSpec, listener: ProcessListener) =>
      cgroups === undefined
        ? start(spec, listener)
        : Effect.flatMap(
          Effect.try({ try: cgroups.create, catch: (cause) => Cgroups.startError(spec, cause) }),
          (cgroup) => Effect.onError(start(spec, listener, cgroup), () => Effect.sync(() => cgroup.remove()))
        )

    const release = (process: NodeProcess): Effect.Effect<void> =>
      Effect.suspend(() => {
        process.release()
        // What dies of that SIGKILL must be forgotten by the guardian as soon as its number is free, and leaves a cgroup.
        return guardian === undefined && cgroups === undefined || process.group.look()
          ? Effect.void
          : Effect.forkIn(Effect.interruptible(process.awaitGone), scope)
      })

    return {
      // `acquireRelease` would save and restore the fiber's references, at a tenth of a spawn's cost.
      spawn: (spec, listener) =>
        Effect.flatMap(
          Effect.uninterruptible(
            Effect.flatMap(
              Effect.scope,
              (scope) =>
                turn.pipe(
                  Effect.zipRight(startInCgroup(spec, listener)),
                  Effect.tap(({ process }) => Scope.addFinalizer(scope, release(process)))
                )
            )
          ),
          ({ process, ready }) => ready === undefined ? Effect.succeed(process) : Effect.as(ready, process)
        )
    }
  })

interface Started {
  readonly process: NodeProcess
  /** Waits until the process has become the program, if that is not so from the start. */
  readonly ready: Effect.Effect<void, JobStartError | InvalidJobSpec> | undefined
}

const spawnChild = (
  spec: JobSpec.JobSpec,
  program: Program.Program,
  steps: ReadonlyArray<Prologue.Step>,
  stdio: Stdio.Stdio,
  guardian: Guardian | undefined
): ChildProcess => {
  // To inherit it instead of copying it would be cheaper, but V8 does not see when an inherited `process.env` changes.
  const env = JobSpec.environment(spec, process.env)
  if (guardian !== undefined) env[guardian.mark] = "1"
  const options: Prologue.Options = { cwd: spec.cwd, env, stdio: stdio.child, detached: true }
  if (steps.length > 0) return Prologue.spawn(steps, program, options)
  const [file, ...args] = program
  return spawn(file, args, { ...options, stdio: [...stdio.child] })
}

/** Node reports some failures a moment later, by an event, and then closes the pipes by itself. */
const startFailure = (spec: JobSpec.JobSpec, child: ChildProcess): Effect.Effect<never, JobStartError> =>
  Effect.async((resume) => {
    child.once("error", (cause) => resume(Effect.fail(StartError.fromErrno(spec, cause, Program.surroundings))))
  })
