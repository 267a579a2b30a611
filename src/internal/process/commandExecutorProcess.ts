/**
 * Processes made by a `CommandExecutor` of `@effect/platform`, on whatever platform it runs.
 */
import * as Command from "@effect/platform/Command"
import type * as CommandExecutor from "@effect/platform/CommandExecutor"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Mailbox from "effect/Mailbox"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { InvalidJobSpec, type JobStartError } from "../../JobError.ts"
import * as JobSpec from "../../JobSpec.ts"
import { type Ended, Exited, Killed, Signal } from "../../JobStatus.ts"
import type { OutputSource } from "../../Output.ts"
import * as StartError from "./startError.ts"

/** What a process is reported to. `ProcessSpawner`, which this is a part of, says more of it and of what comes back. */
interface Listener {
  readonly onOutput: (source: OutputSource, bytes: Uint8Array) => boolean
  readonly onOutputEnd: (source: OutputSource) => void
  readonly onExit: (status: Ended) => void
}

export const spawn = (executor: CommandExecutor.CommandExecutor, spec: JobSpec.JobSpec, listener: Listener) =>
  Effect.uninterruptible(Effect.gen(function*() {
    if (spec.limits !== undefined) {
      return yield* new InvalidJobSpec({ field: "limits", reason: "cannot be set through a CommandExecutor" })
    }
    if (spec.stderr === "stdout") {
      return yield* new InvalidJobSpec({ field: "stderr", reason: "has a pipe of its own through a CommandExecutor" })
    }
    const isExtended = spec.extendEnv && !Object.values(spec.env).includes(null)
    if (!isExtended && !("extendEnv" in Command.make(spec.command))) {
      const reason = "@effect/platform before 0.97.2 always extends the host's environment"
      return yield* new InvalidJobSpec({ field: spec.extendEnv ? "env" : "extendEnv", reason })
    }
    const scope = yield* Scope.make()
    const process = yield* executor.start(toCommand(spec)).pipe(
      Scope.extend(scope),
      Effect.catchAllCause((cause) =>
        Effect.zipRight(Effect.forkDaemon(Scope.close(scope, Exit.void)), startFailure(spec, cause))
      )
    )
    return yield* watch(process, scope, spec, listener)
  }))

/** An input that is not asked for is closed at once. */
const toCommand = (spec: JobSpec.JobSpec): Command.Command => {
  const command = JobSpec.toCommand(spec, typeof process === "undefined" ? {} : process.env)
  return spec.stdin === "ignore" ? Command.stdin(command, Stream.empty) : command
}

/** Executors die of what they did not expect, such as an argument list that is too long. */
const startFailure = (spec: JobSpec.JobSpec, cause: Cause.Cause<unknown>): Effect.Effect<never, JobStartError> =>
  Cause.isInterruptedOnly(cause) ? Effect.interrupt : Effect.fail(StartError.fromPlatform(spec, Cause.squash(cause)))

const watch = (
  process: CommandExecutor.Process,
  scope: Scope.CloseableScope,
  spec: JobSpec.JobSpec,
  listener: Listener
) =>
  Effect.gen(function*() {
    const exited = Effect.unsafeMakeLatch(false)
    let isExited = false

    const stdout = yield* readInto(listener, "stdout", process.stdout)
    const stderr = yield* readInto(listener, "stderr", process.stderr)
    const input = yield* openInput(process, spec)

    const kill = (signal: Signal): Effect.Effect<unknown> =>
      Effect.suspend(() => isExited ? Effect.void : Effect.exit(process.kill(signal)))

    const cutOutput = Effect.zipWith(stdout.cut, stderr.cut, (out, err) => out || err)

    yield* Effect.exit(process.exitCode).pipe(
      Effect.flatMap((exit) =>
        Effect.suspend(() => {
          isExited = true
          listener.onExit(toEnded(exit))
          return Effect.zipRight(exited.open, input.close)
        })
      ),
      Effect.forkDaemon
    )

    // An executor waits without a limit for what it kills, so nobody waits for the executor.
    yield* Effect.addFinalizer(() =>
      Effect.zipRight(
        Effect.forkDaemon(Effect.zipRight(kill("SIGKILL"), Scope.close(scope, Exit.void))),
        cutOutput
      )
    )

    return {
      pid: process.pid,
      signal: (signal: Signal) => Effect.forkDaemon(kill(signal)),
      isGone: Effect.sync(() => isExited),
      awaitGone: exited.await,
      resumeOutput: Effect.zipRight(stdout.resume, stderr.resume),
      // What the platform has read already comes first.
      cutOutput: Effect.zipRight(Effect.zipRight(macrotask, macrotask), cutOutput),
      writeInput: input.write,
      closeInput: input.end
    }
  })

const macrotask: Effect.Effect<void> = Effect.async((resume) => {
  const timer = setTimeout(() => resume(Effect.void), 0)
  return Effect.sync(() => clearTimeout(timer))
})

/** Reads one source to its end, its failure, or its interruption. */
const readInto = (listener: Listener, source: OutputSource, stream: Stream.Stream<Uint8Array, unknown>) => {
  const open = Effect.unsafeMakeLatch(true)
  const deliver = (bytes: Uint8Array) =>
    Effect.suspend(() => {
      if (bytes.length > 0 && !listener.onOutput(source, bytes)) open.unsafeClose()
      return open.await
    })
  return Stream.runForEachChunk(stream, (chunk) => Effect.forEach(chunk, deliver, { discard: true })).pipe(
    Effect.interruptible,
    Effect.exit,
    Effect.ensuring(Effect.sync(() => listener.onOutputEnd(source))),
    Effect.forkDaemon,
    Effect.map((fiber) => ({
      resume: open.open,
      /** Whether more could have come. */
      cut: Effect.suspend(() => Effect.as(Fiber.interruptFork(fiber), fiber.unsafePoll() === null))
    }))
  )
}

const openInput = (process: CommandExecutor.Process, spec: JobSpec.JobSpec) =>
  Effect.gen(function*() {
    if (spec.stdin === "ignore") {
      return { write: () => Effect.succeed(false), end: Effect.void, close: Effect.void }
    }
    const mailbox = yield* Mailbox.make<Uint8Array>(1)
    const fiber = yield* Mailbox.toStream(mailbox).pipe(
      // Node's sink waits for room only between two pieces of one chunk.
      Stream.mapChunks(Chunk.flatMap((bytes) => Chunk.make(bytes, new Uint8Array(0)))),
      Stream.run(process.stdin),
      Effect.interruptible,
      Effect.exit,
      Effect.ensuring(mailbox.shutdown),
      Effect.forkDaemon
    )
    return {
      write: (bytes: Uint8Array) => mailbox.offer(bytes),
      end: mailbox.end,
      // Not before the exit: an executor that is interrupted hears no more of a broken pipe, and the host would die of it.
      close: Fiber.interruptFork(fiber)
    }
  })

/** An executor fails to tell an exit code when there is none, because of a signal that its message names. */
const toEnded = (exit: Exit.Exit<number, unknown>): Ended =>
  Exit.isSuccess(exit)
    ? new Exited({ code: exit.value >>> 0 })
    : new Killed({ signal: Option.getOrElse(signalIn(String(Cause.squash(exit.cause))), () => "UNKNOWN" as const) })

/** The message begins with the command line, which may name signals too. */
const signalIn = (message: string): Option.Option<Signal> =>
  Option.flatMap(
    Option.fromNullable(message.match(/SIG[A-Z0-9]+/g)?.at(-1)),
    (name) => Schema.decodeUnknownOption(Signal)(name)
  )
