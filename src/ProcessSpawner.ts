/**
 * The seam to the operating system: how a job's leader is made, watched, signalled and reaped.
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
 * (`"leader"`), its whole process group (`"group"`), or also what has left that group (`"tree"`).
 *
 * @since 0.1.0
 * @category models
 */
export type Guarantee = "leader" | "group" | "tree"

/**
 * What a spawner reports of a process. The calls never throw and never wait. They may begin before `spawn` returns.
 *
 * @since 0.1.0
 * @category models
 */
export interface ProcessListener {
  /**
   * Bytes were read. They belong to the listener from now on. `false` asks the spawner to read no more from this source
   * until `resumeOutput`.
   */
  readonly onOutput: (source: OutputSource, bytes: Uint8Array) => boolean
  /** This source has come to its end. It is called once for each source, after its last bytes. */
  readonly onOutputEnd: (source: OutputSource) => void
  /**
   * The leader has been reaped. It is called once. `isGone` is true if no process of the group is known to be alive;
   * otherwise the coordinator asks `Process.isGone`.
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
  /** The process id of the leader, which is also the id of the process group. */
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
   * Reads what is there already, and closes both pipes. `onOutputEnd` follows for each source that had not ended.
   * `false`: both had ended.
   */
  readonly cutOutput: Effect.Effect<boolean>
  /**
   * Writes to standard input and waits until there is room for more. `false`: no process reads it any more. Writes take
   * turns. A write that is interrupted before its turn is not sent. A write whose first byte could be sent is sent
   * whole, even if it is interrupted.
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
  /** What holds here and now. It can become less while the program runs, when the guardian is lost. */
  readonly guarantee: Guarantee
  /**
   * Starts the program of a valid spec. When the scope closes, the rest of the process group is killed and every
   * descriptor is closed, without waiting.
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
 * Processes through the `CommandExecutor` of any platform, or a fake one. Its limits are those of such an executor:
 *
 * - Only the leader is watched. Its process group counts as gone when the leader is reaped, and what the leader leaves
 *   behind is left alone (`guarantee` is `"leader"`). Nothing ends the jobs of a host that died.
 * - `limits` and `stderr: "stdout"` are an `InvalidJobSpec`; `transport` is the executor's.
 * - The signal that killed a process is taken from the text of the executor's error. It is `"UNKNOWN"` if the text
 *   names none.
 * - A directory that may not be entered is `PermissionDenied`.
 * - `writeInput` notices that no process reads any more only at the next write.
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
