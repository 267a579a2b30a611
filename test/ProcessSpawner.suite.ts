/**
 * What every `ProcessSpawner` keeps, written once. What one of them cannot do is named by a test of what it does instead.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { InvalidJobSpec, JobStartError, type JobStartReason } from "../src/JobError.ts"
import type * as JobSpec from "../src/JobSpec.ts"
import { Exited, Killed, type Signal } from "../src/JobStatus.ts"
import { type Guarantee, ProcessSpawner } from "../src/ProcessSpawner.ts"
import { memoryInUse } from "./fixtures/garbage.ts"
import { Recorder } from "./fixtures/recorder.ts"

/** Programs that the suite runs, by what they do. */
export interface Programs {
  /** Writes "out\n" to its output and "err\n" to its error output, and leaves with code 12. */
  readonly writes: JobSpec.JobSpec
  /** Leaves with code 0. */
  readonly succeeds: JobSpec.JobSpec
  /** Runs until any signal ends it. */
  readonly runs: JobSpec.JobSpec
  /** Ignores SIGTERM, says "ready\n" when it does, and runs until another signal ends it. */
  readonly ignoresTerm: JobSpec.JobSpec
  /** Writes 1 MiB of "x" to its output and leaves with code 0. */
  readonly floods: JobSpec.JobSpec
  /**
   * Writes 69,632 bytes to its output, says "ready\n" on its error output, not before it has written all that the pipe
   * takes, and runs until any signal ends it.
   */
  readonly fillsPipe: JobSpec.JobSpec
  /** Starts a process in its group that holds the pipes and never leaves, writes its pid and "\n", leaves with code 0. */
  readonly leavesChild: JobSpec.JobSpec
  /** The same, but that process has left the group. */
  readonly leavesEscapee: JobSpec.JobSpec
  /** Copies its input to its output, and leaves with code 0 at the end of input. */
  readonly copies: JobSpec.JobSpec
  /** Has an input that it never reads, and runs until any signal ends it. */
  readonly neverReads: JobSpec.JobSpec
  /** Closes the input that it has, says "closed\n", and runs until any signal ends it. */
  readonly closesInput: JobSpec.JobSpec
  /** Says "ready\n"; on SIGUSR1 it says "again\n" and goes on, on SIGTERM it says "bye\n" and leaves with code 3. */
  readonly catches: JobSpec.JobSpec
  /**
   * Says "hello X\n" for each line X of its input, the last one without an end too; for "quit" it says "bye\n" and leaves
   * with code 4, at the end of input it says "end\n" and leaves with code 5.
   */
  readonly answers: JobSpec.JobSpec
  /** Says its last argument, and leaves with code 0. */
  readonly echoes: JobSpec.JobSpec
  /** Programs that cannot be started, and why. */
  readonly failures: Partial<Readonly<Record<JobStartReason, JobSpec.JobSpec>>>
}

export interface Capabilities {
  readonly guarantee: Guarantee
  /** Whether a pipe takes 69,632 bytes, reader's buffers included, while its reader pauses, or none. */
  readonly pipes: "roomy" | "tight"
  /** Whether limits can be set; if not, they are refused, or (by a simulation) they do nothing. */
  readonly limits: "set" | "refused" | "ignored"
  /** Whether both outputs can be one. */
  readonly joins: boolean
  /** Ends a process that the spawner left alone, by what `leavesChild` wrote. */
  readonly kill: (pid: string) => void
}

const mebibyte = 1024 * 1024

export const suite = <E>(
  name: string,
  layer: Layer.Layer<ProcessSpawner, E>,
  programs: Programs,
  capabilities: Capabilities
) => {
  const test = (promise: string, body: Effect.Effect<void, unknown, ProcessSpawner | Scope.Scope>) =>
    it.scopedLive(promise, () => Effect.provide(body, layer))

  const spawn = (spec: JobSpec.JobSpec, recorder = new Recorder()) =>
    Effect.gen(function*() {
      const spawner = yield* ProcessSpawner
      return { recorder, process: yield* spawner.spawn(spec, recorder) }
    })

  describe(name, () => {
    describe("start", () => {
      test(
        `guarantees the ${capabilities.guarantee}`,
        Effect.gen(function*() {
          expect((yield* ProcessSpawner).guarantee).toBe(capabilities.guarantee)
        })
      )

      for (const [reason, spec] of Object.entries(programs.failures)) {
        test(
          `fails with ${reason}, reports nothing of it, and goes on working`,
          Effect.gen(function*() {
            const recorder = new Recorder()
            const error = yield* Effect.flip(spawn(spec, recorder))
            expect(error).toBeInstanceOf(JobStartError)
            expect(error).toMatchObject({ reason, command: spec.command })
            const next = yield* spawn(programs.succeeds)
            expect(yield* next.recorder.end).toEqual(new Exited({ code: 0 }))
            expect([...recorder.exits, ...recorder.ends]).toEqual([])
          })
        )
      }

      const limited: JobSpec.JobSpec = { ...programs.succeeds, limits: { openFiles: 64 } }
      if (capabilities.limits === "refused") {
        test(
          "says so of limits, which it cannot set",
          Effect.gen(function*() {
            const error = yield* Effect.flip(spawn(limited))
            expect(error).toBeInstanceOf(InvalidJobSpec)
            expect(error).toMatchObject({ field: "limits" })
          })
        )
      } else {
        test(
          capabilities.limits === "set" ? "takes limits" : "takes limits, which do nothing",
          Effect.gen(function*() {
            expect(yield* (yield* spawn(limited)).recorder.exit).toEqual(new Exited({ code: 0 }))
          })
        )
      }
    })

    describe("end", () => {
      test(
        "tells the exact code, and the end of each source once and after its last bytes",
        Effect.gen(function*() {
          const { process, recorder } = yield* spawn(programs.writes)
          expect(process.pid).toBeGreaterThan(0)
          expect(yield* recorder.end).toEqual(new Exited({ code: 12 }))
          yield* process.awaitGone
          expect(recorder.text("stdout")).toBe("out\n")
          expect(recorder.text("stderr")).toBe("err\n")
          expect(recorder.ends.sort()).toEqual(["stderr", "stdout"])
          expect(recorder.late).toEqual([])
          expect(recorder.exits).toHaveLength(1)
        })
      )

      for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGQUIT", "SIGABRT", "SIGKILL"] as const) {
        test(
          `tells that ${signal} has killed it`,
          Effect.gen(function*() {
            const { process, recorder } = yield* spawn(programs.runs)
            expect(yield* process.isGone).toBe(false)
            yield* process.signal(signal)
            expect(yield* recorder.end).toEqual(new Killed({ signal }))
            yield* process.awaitGone
            expect(yield* process.isGone).toBe(true)
          })
        )
      }

      test(
        "tells of the exit before it is gone for anybody, and lets many wait for that",
        Effect.gen(function*() {
          const { process, recorder } = yield* spawn(programs.runs)
          const waiting = yield* Effect.fork(
            Effect.forEach([1, 2, 3], () => Effect.map(process.awaitGone, () => recorder.exits.length), {
              concurrency: "unbounded"
            })
          )
          const givenUp = yield* Effect.fork(process.awaitGone)
          yield* Fiber.interrupt(givenUp)
          yield* process.signal("SIGKILL")
          expect(yield* Fiber.join(waiting)).toEqual([1, 1, 1])
        })
      )

      test(
        "ignores signals to what is gone, and any signal that this system does not know",
        Effect.gen(function*() {
          const { process, recorder } = yield* spawn(programs.runs)
          yield* process.signal("SIGNOTHING" as Signal)
          yield* process.signal("SIGKILL")
          yield* recorder.end
          yield* process.awaitGone
          yield* process.signal("SIGTERM")
          yield* process.signal("SIGCONT")
          expect(recorder.exits).toEqual([new Killed({ signal: "SIGKILL" })])
        })
      )

      test(
        "leaves it to the program what a signal does, save SIGKILL",
        Effect.gen(function*() {
          const { process, recorder } = yield* spawn(programs.ignoresTerm)
          yield* recorder.line("stdout")
          yield* process.signal("SIGTERM")
          yield* process.signal("SIGKILL")
          expect(yield* recorder.end).toEqual(new Killed({ signal: "SIGKILL" }))
        })
      )

      test(
        "lets a program catch a signal, go on, and leave as it likes",
        Effect.gen(function*() {
          const { process, recorder } = yield* spawn(programs.catches)
          yield* recorder.line("stdout")
          for (let times = 1; times <= 2; times++) {
            yield* process.signal("SIGUSR1")
            yield* recorder.until(() => recorder.text("stdout") === "ready\n" + "again\n".repeat(times))
          }
          yield* process.signal("SIGTERM")
          expect(yield* recorder.end).toEqual(new Exited({ code: 3 }))
          expect(recorder.text("stdout")).toBe("ready\nagain\nagain\nbye\n")
        })
      )

      test(
        "runs a program with its arguments",
        Effect.gen(function*() {
          const { recorder } = yield* spawn(programs.echoes)
          expect(yield* recorder.end).toEqual(new Exited({ code: 0 }))
          expect(recorder.text("stdout")).toBe(`${programs.echoes.args.at(-1)}\n`)
        })
      )

      test(
        "kills what is left when the scope closes, without waiting for it",
        Effect.gen(function*() {
          const scope = yield* Scope.make()
          const { process, recorder } = yield* Scope.extend(spawn(programs.ignoresTerm), scope)
          yield* recorder.line("stdout")
          yield* Scope.close(scope, Exit.void)
          expect(yield* recorder.exit).toEqual(new Killed({ signal: "SIGKILL" }))
          yield* process.awaitGone
          yield* recorder.outputEnd
        })
      )

      if (capabilities.guarantee === "leader") {
        test(
          "does not watch the group of a leader that has left: it counts as gone",
          Effect.gen(function*() {
            const { process, recorder } = yield* spawn(programs.leavesChild)
            const child = yield* recorder.line("stdout")
            expect(yield* recorder.exit).toEqual(new Exited({ code: 0 }))
            yield* process.awaitGone
            yield* process.signal("SIGKILL")
            expect(recorder.ends).toEqual([])
            yield* process.cutOutput
            yield* recorder.outputEnd
            capabilities.kill(child)
          })
        )
      } else {
        test(
          "is not gone before the last of its group, which gets signals without a leader too",
          Effect.gen(function*() {
            const { process, recorder } = yield* spawn(programs.leavesChild)
            expect(yield* recorder.exit).toEqual(new Exited({ code: 0 }))
            expect(yield* process.isGone).toBe(false)
            expect(recorder.ends).toEqual([])
            yield* process.signal("SIGKILL")
            yield* process.awaitGone
            yield* recorder.outputEnd
          })
        )
      }
    })

    describe("output", () => {
      test(
        "is complete and exact, however often its reader pauses",
        Effect.gen(function*() {
          const recorder = new Recorder()
          recorder.accepts = () => false
          const { process } = yield* spawn(programs.floods, recorder)
          while (recorder.bytes("stdout").length < mebibyte) {
            const reads = recorder.reads("stdout")
            yield* process.resumeOutput
            yield* recorder.until(() => recorder.reads("stdout") > reads)
          }
          yield* process.resumeOutput
          expect(yield* recorder.end).toEqual(new Exited({ code: 0 }))
          expect(recorder.bytes("stdout").equals(Buffer.alloc(mebibyte, "x"))).toBe(true)
          expect(recorder.reads("stdout")).toBeGreaterThan(1)
        })
      )

      test(
        `stays unread while its reader pauses, past the exit too; then comes ${
          capabilities.pipes === "roomy" ? "what the pipe held" : "the end, for the pipe held nothing"
        }`,
        Effect.gen(function*() {
          const recorder = new Recorder()
          recorder.accepts = (source) => source === "stderr"
          const { process } = yield* spawn(programs.fillsPipe, recorder)
          yield* recorder.line("stderr")
          yield* process.signal("SIGKILL")
          expect(yield* recorder.exit).toEqual(new Killed({ signal: "SIGKILL" }))
          yield* process.awaitGone
          yield* recorder.until(() => recorder.ends.includes("stderr"))
          expect(recorder.reads("stdout")).toBe(1)
          expect(recorder.ends).toEqual(["stderr"])

          const first = recorder.bytes("stdout").length
          recorder.accepts = () => true
          yield* process.resumeOutput
          yield* recorder.outputEnd
          expect(recorder.bytes("stdout").length).toBe(capabilities.pipes === "roomy" ? 69_632 : first)
        })
      )

      if (capabilities.guarantee === "tree") {
        test(
          "is never held by what has left the group: that is of the tree, which gets signals and is not gone before it",
          Effect.gen(function*() {
            const { process, recorder } = yield* spawn(programs.leavesEscapee)
            expect(yield* recorder.exit).toEqual(new Exited({ code: 0 }))
            expect(yield* process.isGone).toBe(false)
            yield* process.signal("SIGTERM")
            yield* process.awaitGone
            yield* recorder.outputEnd
          })
        )
      } else {
        test(
          "is given up on demand, after what is there already",
          Effect.gen(function*() {
            const { process, recorder } = yield* spawn(programs.leavesEscapee)
            yield* recorder.exit
            yield* process.awaitGone
            expect(yield* process.cutOutput).toBe(true)
            yield* recorder.outputEnd
            const escapee = yield* recorder.line("stdout")
            expect(recorder.ends.sort()).toEqual(["stderr", "stdout"])
            capabilities.kill(escapee)
          })
        )
      }

      test(
        capabilities.joins
          ? "of errors goes where the other goes, if the spec says so"
          : "cannot be joined with that of errors",
        Effect.gen(function*() {
          const joined = Effect.flatMap(
            spawn({ ...programs.writes, stderr: "stdout" }),
            ({ recorder }) =>
              Effect.map(
                recorder.end,
                (end) => [end, recorder.text("stdout"), recorder.text("stderr"), recorder.ends.length]
              )
          )
          if (capabilities.joins) {
            expect(yield* joined).toEqual([new Exited({ code: 12 }), "out\nerr\n", "", 2])
          } else expect(yield* Effect.flip(joined)).toMatchObject({ _tag: "InvalidJobSpec", field: "stderr" })
        })
      )

      test(
        "ends once, also when it is given up after its end",
        Effect.gen(function*() {
          const { process, recorder } = yield* spawn(programs.writes)
          yield* recorder.end
          expect(yield* process.cutOutput).toBe(false)
          yield* process.resumeOutput
          expect(recorder.ends).toHaveLength(2)
        })
      )
    })

    describe("input", () => {
      const bytes = Buffer.alloc(mebibyte, "0123456789abcde\n")

      test(
        "reaches the program, byte for byte, and its end too",
        Effect.gen(function*() {
          const { process, recorder } = yield* spawn(programs.copies)
          for (let at = 0; at < bytes.length; at += 50_000) {
            expect(yield* process.writeInput(bytes.subarray(at, at + 50_000))).toBe(true)
          }
          yield* process.closeInput
          expect(yield* recorder.end).toEqual(new Exited({ code: 0 }))
          expect(recorder.bytes("stdout").equals(bytes)).toBe(true)
        })
      )

      test(
        "has come to its end already if the spec does not ask for one",
        Effect.gen(function*() {
          const { process, recorder } = yield* spawn({ ...programs.copies, stdin: "ignore" })
          expect(yield* process.writeInput(bytes)).toBe(false)
          expect(yield* recorder.end).toEqual(new Exited({ code: 0 }))
        })
      )

      test(
        "makes its writer wait for a program that does not read, until the writer gives up",
        Effect.gen(function*() {
          const { process } = yield* spawn(programs.neverReads)
          const writer = yield* Effect.fork(Effect.forever(process.writeInput(bytes)))
          yield* Effect.yieldNow()
          yield* Fiber.interrupt(writer)
          expect(yield* process.isGone).toBe(false)
        })
      )

      test(
        "gets no write of a writer that gave up while it waited, and no memory holds it",
        Effect.gen(function*() {
          const { process, recorder } = yield* spawn(programs.copies)
          yield* process.signal("SIGSTOP")
          const before = memoryInUse()
          const answers = yield* Effect.replicateEffect(
            Effect.suspend(() => Effect.timeoutOption(process.writeInput(Buffer.from(bytes)), "20 millis")),
            30
          )
          const taken = answers.filter(Option.isSome).length
          expect(memoryInUse() - before).toBeLessThan(8 * mebibyte)
          yield* process.signal("SIGCONT")
          yield* process.closeInput
          yield* recorder.end
          // What waits in the pipe is whole: of those that gave up, the one that it had begun with.
          const copied = recorder.bytes("stdout").length / mebibyte
          expect(copied).toBeGreaterThanOrEqual(taken)
          expect(copied).toBeLessThanOrEqual(taken + 1)
          expect(copied % 1).toBe(0)
        })
      )

      test(
        "tells a writer that waits when the program is gone",
        Effect.gen(function*() {
          const { process } = yield* spawn(programs.neverReads)
          const writer = yield* Effect.fork(Effect.repeat(process.writeInput(bytes), { while: (isOpen) => isOpen }))
          yield* process.signal("SIGKILL")
          expect(yield* Fiber.join(writer)).toBe(false)
        })
      )

      test(
        "tells its writer that the program has closed it",
        Effect.gen(function*() {
          const { process, recorder } = yield* spawn(programs.closesInput)
          yield* recorder.line("stdout")
          const answer = yield* Effect.repeat(process.writeInput(bytes), { while: (isOpen) => isOpen })
          expect(answer).toBe(false)
          expect(yield* process.isGone).toBe(false)
        })
      )

      test(
        "is read line by line, to its end",
        Effect.gen(function*() {
          const { process, recorder } = yield* spawn(programs.answers)
          yield* process.writeInput(Buffer.from("Ada\nB"))
          expect(yield* recorder.line("stdout")).toBe("hello Ada")
          yield* process.writeInput(Buffer.from("ob\n\nC"))
          yield* process.closeInput
          expect(yield* recorder.end).toEqual(new Exited({ code: 5 }))
          expect(recorder.text("stdout")).toBe("hello Ada\nhello Bob\nhello \nhello C\nend\n")
        })
      )

      test(
        "may end the program",
        Effect.gen(function*() {
          const { process, recorder } = yield* spawn(programs.answers)
          expect(yield* process.writeInput(Buffer.from("Ada\nquit\nBob\n"))).toBe(true)
          expect(yield* recorder.end).toEqual(new Exited({ code: 4 }))
          expect(recorder.text("stdout")).toBe("hello Ada\nbye\n")
        })
      )

      test(
        "takes nothing after it was closed, or after the exit",
        Effect.gen(function*() {
          const closed = yield* spawn(programs.neverReads)
          yield* closed.process.closeInput
          expect(yield* closed.process.writeInput(bytes)).toBe(false)
          yield* closed.process.closeInput
          yield* closed.process.signal("SIGKILL")
          yield* closed.recorder.exit
          expect(yield* closed.process.writeInput(bytes)).toBe(false)
        })
      )
    })

    test(
      "many at once: each gets its own output and its own end",
      Effect.gen(function*() {
        const all = yield* Effect.forEach(Array.from({ length: 50 }), () =>
          Effect.gen(function*() {
            const { process, recorder } = yield* spawn(programs.writes)
            const end = yield* recorder.end
            yield* process.awaitGone
            return [end, recorder.text("stdout"), recorder.text("stderr")]
          }), { concurrency: "unbounded" })
        expect(Chunk.fromIterable(all)).toHaveLength(50)
        for (const each of all) expect(each).toEqual([new Exited({ code: 12 }), "out\n", "err\n"])
      })
    )
  })
}
