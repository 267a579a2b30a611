import * as NodeContext from "@effect/platform-node/NodeContext"
import * as CommandExecutor from "@effect/platform/CommandExecutor"
import { SystemError } from "@effect/platform/Error"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Inspectable from "effect/Inspectable"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Sink from "effect/Sink"
import * as Stream from "effect/Stream"
import { tmpdir } from "node:os"
import { InvalidJobSpec } from "../src/JobError.ts"
import * as JobSpec from "../src/JobSpec.ts"
import { Exited, Killed } from "../src/JobStatus.ts"
import { layerCommandExecutor, ProcessSpawner } from "../src/ProcessSpawner.ts"
import * as Processes from "./fixtures/processes.ts"
import { programs, sh } from "./fixtures/programs.ts"
import { Recorder } from "./fixtures/recorder.ts"
import { suite } from "./ProcessSpawner.suite.ts"

const layer = Layer.provide(layerCommandExecutor, NodeContext.layer)

suite("ProcessSpawner.layerCommandExecutor", layer, programs, {
  guarantee: "leader",
  pipes: "roomy",
  limits: "refused",
  joins: false,
  kill: (pid) => Processes.kill(Number(pid), "SIGKILL")
})

const spawn = (spec: JobSpec.JobSpec, recorder = new Recorder()) =>
  Effect.gen(function*() {
    const spawner = yield* ProcessSpawner
    return { recorder, process: yield* spawner.spawn(spec, recorder) }
  })

describe("ProcessSpawner.layerCommandExecutor, on Node", () => {
  it.scopedLive("passes the environment, with variables set and unset, the directory and the shell", () =>
    Effect.gen(function*() {
      const { recorder } = yield* spawn(JobSpec.make({
        command: "echo $HERE ${HOME-unset} ${PATH:+set}",
        args: ["&&", "pwd"],
        shell: true,
        env: { HERE: "ünï", HOME: null },
        cwd: tmpdir()
      }))
      expect(yield* recorder.end).toEqual(new Exited({ code: 0 }))
      expect(recorder.text("stdout")).toBe(`ünï unset set\n${tmpdir()}\n`)
    }).pipe(Effect.provide(layer)))

  it.scopedLive("takes a directory that is a file for what it is", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(spawn(JobSpec.make({ command: "true", cwd: "/dev/null" })))
      expect(error).toMatchObject({ reason: "InvalidDirectory" })
    }).pipe(Effect.provide(layer)))

  it.scopedLive("does not wait for a process that ignores SIGTERM when its scope closes", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { process, recorder } = yield* Scope.extend(spawn(sh("trap '' TERM; echo $$; exec sleep 600")), scope)
      const pid = Number(yield* recorder.line("stdout"))
      yield* Scope.close(scope, Exit.void)
      expect(yield* recorder.exit).toEqual(new Killed({ signal: "SIGKILL" }))
      yield* process.awaitGone
      yield* Processes.eventually(() => Processes.isAlive(pid), (isAlive) => !isAlive)
    }).pipe(Effect.provide(layer)))
})

/** An executor whose processes are made of these parts; by default they run without end and hear nothing. */
const fake = (parts: Partial<CommandExecutor.Process>, start?: Effect.Effect<CommandExecutor.Process, SystemError>) => {
  const process: CommandExecutor.Process = {
    [CommandExecutor.ProcessTypeId]: CommandExecutor.ProcessTypeId,
    pid: CommandExecutor.ProcessId(4242),
    exitCode: Effect.never,
    isRunning: Effect.succeed(true),
    kill: () => Effect.never,
    stdin: Sink.drain,
    stdout: Stream.never,
    stderr: Stream.never,
    ...Inspectable.BaseProto,
    ...parts
  }
  return Layer.provide(
    layerCommandExecutor,
    Layer.succeed(
      CommandExecutor.CommandExecutor,
      CommandExecutor.makeExecutor(() => start ?? Effect.succeed(process))
    )
  )
}

const systemError = (description: string) =>
  new SystemError({ reason: "Unknown", module: "Command", method: "exitCode", description })

const spec = JobSpec.make({ command: "fake" })

describe("ProcessSpawner.layerCommandExecutor, on a fake executor", () => {
  it.scoped("waits for nothing when its scope closes, whatever the executor waits for", () =>
    Effect.gen(function*() {
      const { process, recorder } = yield* Effect.scoped(spawn(spec))
      yield* recorder.outputEnd
      expect(yield* process.isGone).toBe(false)
    }).pipe(Effect.provide(fake({}))))

  it.scoped("sends a signal without waiting for what it does", () => {
    const sent: Array<string | undefined> = []
    return Effect.gen(function*() {
      const { process } = yield* spawn(spec)
      yield* process.signal("SIGTERM")
      yield* process.signal("SIGCONT")
      yield* Effect.yieldNow()
      expect(sent).toEqual(["SIGTERM", "SIGCONT"])
    }).pipe(
      Effect.provide(fake({ kill: (signal) => Effect.zipRight(Effect.sync(() => sent.push(signal)), Effect.never) }))
    )
  })

  for (
    const [message, signal] of [
      ["Process interrupted due to receipt of signal: SIGSEGV", "SIGSEGV"],
      ["Unknown: Command.exitCode (kill -SIGHUP 1): Process interrupted due to receipt of signal: SIGKILL", "SIGKILL"],
      ["SIGNIFICANT trouble", "UNKNOWN"],
      ["no idea", "UNKNOWN"]
    ] as const
  ) {
    it.scoped(`takes "${message}" for ${signal}`, () =>
      Effect.gen(function*() {
        const { recorder } = yield* spawn(spec)
        expect(yield* recorder.exit).toEqual(new Killed({ signal }))
      }).pipe(Effect.provide(fake({ exitCode: Effect.fail(systemError(message)) }))))
  }

  it.scoped("takes an output that fails, or dies, for ended", () =>
    Effect.gen(function*() {
      const { recorder } = yield* spawn(spec)
      yield* recorder.outputEnd
      expect(recorder.text("stdout")).toBe("last")
    }).pipe(Effect.provide(fake({
      stdout: Stream.concat(Stream.make(Buffer.from("last")), Stream.fail(systemError("broken"))),
      stderr: Stream.dieMessage("broken")
    }))))

  it.scoped("fails with a reason, whatever the executor fails with or dies of", () =>
    Effect.gen(function*() {
      const reasonWith = (start: Effect.Effect<never, SystemError>) =>
        Effect.flip(spawn(spec)).pipe(
          Effect.map((error) => error instanceof InvalidJobSpec ? error : error.reason),
          Effect.provide(fake({}, start))
        )
      expect(yield* reasonWith(Effect.fail(systemError("what?")))).toBe("Unknown")
      expect(yield* reasonWith(Effect.die("what?"))).toBe("Unknown")
      expect(yield* reasonWith(Effect.die(Object.assign(new Error(), { code: "E2BIG" })))).toBe("ArgumentListTooLong")
      expect(yield* reasonWith(Effect.die(Object.assign(new Error(), { code: "EMFILE" })))).toBe("ResourceExhausted")
    }))
})
