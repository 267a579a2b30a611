/**
 * The seam to the operating system: how a job's process is made, watched, signalled and reaped.
 *
 * @since 0.1.0
 */
import * as CommandExecutor from "@effect/platform/CommandExecutor"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as CommandExecutorProcess from "./internal/process/commandExecutorProcess.ts"
import type { InvalidJobSpec, JobStartError } from "./JobError.ts"
import type { JobSpec } from "./JobSpec.ts"
import type { Ended, Signal } from "./JobStatus.ts"
import type { OutputSource } from "./Output.ts"

/**
 * What a stop, a close of the coordinator, and the death of the host surely end: the process that was started
 * (`leader`), its whole process group (`group`), or also what has left that group (`tree`).
 *
 * @since 0.1.0
 * @category models
 */
export type Guarantee = "leader" | "group" | "tree"

/**
 * What a spawner reports of a process, by calls that never throw and never wait. They may begin before `spawn` returns.
 *
 * @since 0.1.0
 * @category models
 */
export interface ProcessListener {
  /**
   * Bytes, as they were read; they belong to the listener from now on. `false` asks the spawner to read no more from
   * this source until `resumeOutput`.
   */
  readonly onOutput: (source: OutputSource, bytes: Uint8Array) => boolean
  /** This source has come to its end; once for each source, after its last bytes. */
  readonly onOutputEnd: (source: OutputSource) => void
  /**
   * The leader has been reaped; once. `isGone`: it is known already that no process of the group is alive. If it is not,
   * the process is asked.
   */
  readonly onExit: (status: Ended, isGone?: boolean) => void
}

/**
 * A process that leads a process group of its own.
 *
 * @since 0.1.0
 * @category models
 */
export interface Process {
  /** The leader's process id, which is also the group's. */
  readonly pid: number
  /** Sends a signal to every process of the group. Does nothing once the group is gone. */
  readonly signal: (signal: Signal) => Effect.Effect<void>
  /** Whether no process of the group is alive. Zombies that somebody else must reap are not alive. */
  readonly isGone: Effect.Effect<boolean>
  /** Waits until no process of the group is alive. */
  readonly awaitGone: Effect.Effect<void>
  /** Reads on from both sources, after `onOutput` answered `false`. */
  readonly resumeOutput: Effect.Effect<void>
  /**
   * Reads what is there already, and gives up what could still come from either source: `onOutputEnd` follows for each
   * that had not ended. `false`: both had.
   */
  readonly cutOutput: Effect.Effect<boolean>
  /**
   * Writes to standard input and waits until there is room for more; `false`: nobody reads it any more. Interrupted while
   * it waits for those before it, it is not sent; once its own first byte could be sent, it is sent whole all the same.
   */
  readonly writeInput: (bytes: Uint8Array) => Effect.Effect<boolean>
  /** Closes standard input. */
  readonly closeInput: Effect.Effect<void>
}

/**
 * Makes processes.
 *
 * @since 0.2.0
 * @category models
 */
export interface Service {
  /** What holds here and now; it can sink while the program runs, when a helper is lost. */
  readonly guarantee: Guarantee
  /**
   * Starts the program of a valid spec. When the scope closes, what is left of the process group is killed and every
   * descriptor closed, without waiting.
   */
  readonly spawn: (
    spec: JobSpec,
    listener: ProcessListener
  ) => Effect.Effect<Process, JobStartError | InvalidJobSpec, Scope.Scope>
}

/**
 * The tag of the spawner.
 *
 * @since 0.1.0
 * @category models
 */
export class ProcessSpawner extends Context.Tag("joblib/ProcessSpawner")<ProcessSpawner, Service>() {}

/**
 * Processes through the `CommandExecutor` of any platform, or a fake one. It gives what such an executor can:
 *
 * - Only the end of the process that was started is watched: its group counts as gone when it is reaped, and what it
 *   leaves behind is left alone (`guarantee` is `"leader"`). Nothing ends the jobs of a host that died.
 * - `limits` and `stderr: "stdout"` are an `InvalidJobSpec`; `transport` is the executor's.
 * - The signal that killed a process is taken from the text of the executor's error; it is `"UNKNOWN"` if
 *   none is named there.
 * - A directory that may not be entered is `PermissionDenied`.
 * - `writeInput` learns that nobody reads any more only by the write after.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerCommandExecutor: Layer.Layer<ProcessSpawner, never, CommandExecutor.CommandExecutor> = Layer.effect(
  ProcessSpawner,
  Effect.map(CommandExecutor.CommandExecutor, (executor) => ({
    guarantee: "leader",
    spawn: (spec, listener) => CommandExecutorProcess.spawn(executor, spec, listener)
  }))
)
