import { describe, expect, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import { Simulation } from "../src/internal/simulation/simulatedProcess.ts"
import { JobCoordinator, layer } from "../src/JobCoordinator.ts"
import { type JobStartError, JobStartReason } from "../src/JobError.ts"
import * as JobSpec from "../src/JobSpec.ts"
import { type Ended, Exited, Killed, Signal } from "../src/JobStatus.ts"
import type { OutputSource } from "../src/Output.ts"
import { type Process, type ProcessListener, ProcessSpawner } from "../src/ProcessSpawner.ts"
import * as SimulatedProcesses from "../src/SimulatedProcesses.ts"

/** What a listener was told, and when. Text is Latin-1, so that bytes can be told apart. */
type Heard =
  | { readonly at: number; readonly source: OutputSource; readonly text: string }
  | { readonly at: number; readonly endOf: OutputSource }
  | { readonly at: number; readonly exit: Ended }

const listen = (accept: (source: OutputSource, bytes: Uint8Array) => boolean = () => true) =>
  Effect.map(Effect.clock, (clock) => {
    const heard: Array<Heard> = []
    const at = () => clock.unsafeCurrentTimeMillis()
    const listener: ProcessListener = {
      onOutput: (source, bytes) => {
        heard.push({ at: at(), source, text: Buffer.from(bytes).toString("latin1") })
        return accept(source, bytes)
      },
      onOutputEnd: (source) => heard.push({ at: at(), endOf: source }),
      onExit: (exit) => heard.push({ at: at(), exit })
    }
    return { heard, listener }
  })

const spawn = (options: JobSpec.Options, accept?: (source: OutputSource, bytes: Uint8Array) => boolean) =>
  Effect.gen(function*() {
    const spawner = yield* ProcessSpawner
    const { heard, listener } = yield* listen(accept)
    const process = yield* spawner.spawn(JobSpec.make(options), listener)
    return { process, heard }
  })

const trace = Effect.flatMap(SimulatedProcesses.SimulatedProcesses, (_) => _.trace)

/** The one program `p`, and its process. */
const simulate = (script: SimulatedProcesses.Script) => Effect.provide(SimulatedProcesses.layer({ p: script }))
const p = { command: "p" }

const exited = (code: number) => new Exited({ code })
const killed = (signal: Signal) => new Killed({ signal })
const ends = (at: number) => [{ at, endOf: "stdout" }, { at, endOf: "stderr" }]

const minute = 60_000

describe("scripts", () => {
  it.scoped("everything happens at its time, and an hour is over at once", () =>
    Effect.gen(function*() {
      const { heard } = yield* spawn(p)
      expect(heard).toEqual([])
      yield* TestClock.adjust("2 hours")
      expect(heard).toEqual([
        { at: minute, source: "stdout", text: "half" },
        { at: minute, source: "stderr", text: "\xFF\x00" },
        ...ends(60 * minute),
        { at: 60 * minute, exit: exited(12) }
      ])
    }).pipe(simulate({
      output: [{ at: "1 minute", data: "half" }, { source: "stderr", data: Uint8Array.of(255, 0) }],
      end: { at: "1 hour", code: 12 }
    })))

  it.scoped("without times all is done before spawn returns, output first", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p)
      const text = Buffer.from("é").toString("latin1")
      expect(heard).toEqual([{ at: 0, source: "stdout", text }, ...ends(0), { at: 0, exit: exited(0) }])
      expect(yield* process.isGone).toBe(true)
      yield* process.awaitGone
    }).pipe(simulate({ output: [{ data: "é" }], end: { code: 0 } })))

  it.scoped("what has no time, or an earlier one, follows what stands before it", () =>
    Effect.gen(function*() {
      const { heard } = yield* spawn(p)
      yield* TestClock.adjust("3 minutes")
      expect(heard).toEqual([
        { at: 2 * minute, source: "stdout", text: "a" },
        { at: 2 * minute, source: "stdout", text: "b" },
        ...ends(2 * minute),
        { at: 2 * minute, exit: exited(1) }
      ])
    }).pipe(simulate({
      output: [{ at: "2 minutes", data: "a" }, { at: "1 minute", data: "b" }, { data: "" }],
      end: { code: 1 }
    })))

  it.scoped("a process can die of a signal by itself", () =>
    Effect.gen(function*() {
      const { heard } = yield* spawn(p)
      yield* TestClock.adjust(5)
      expect(heard).toEqual([...ends(5), { at: 5, exit: killed("SIGSEGV") }])
      expect(yield* trace).toEqual([
        { at: 0, _tag: "Spawned", pid: 1000, command: "p" },
        { at: 5, _tag: "Exited", pid: 1000, command: "p", signal: "SIGSEGV" }
      ])
    }).pipe(simulate({ end: { at: 5, signal: "SIGSEGV" } })))

  it.scoped("without an end a process runs until it is signalled", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p)
      yield* TestClock.adjust("1000 days")
      expect(heard).toEqual([])
      expect(yield* process.isGone).toBe(false)
      yield* process.signal("SIGTERM")
      expect(yield* process.isGone).toBe(true)
      expect(heard).toEqual([...ends(86_400_000_000), { at: 86_400_000_000, exit: killed("SIGTERM") }])
    }).pipe(simulate({})))

  it.scoped("time begins with the process, and the trace with the layer", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust("1 minute")
      yield* Effect.gen(function*() {
        yield* TestClock.adjust("1 minute")
        const { heard } = yield* spawn(p)
        yield* TestClock.adjust("1 minute")
        expect(heard).toEqual([...ends(3 * minute), { at: 3 * minute, exit: exited(0) }])
        expect((yield* trace).map((_) => _.at)).toEqual([minute, 2 * minute])
      }).pipe(simulate({ end: { at: "1 minute", code: 0 } }))
    }))

  it.scoped("a script can be made from the spec", () =>
    Effect.gen(function*() {
      const { heard } = yield* spawn({ command: "echo", args: ["a", "b"] })
      expect(heard[0]).toEqual({ at: 0, source: "stdout", text: "a b" })
    }).pipe(Effect.provide(SimulatedProcesses.layer({
      echo: (spec) => ({ output: [{ data: spec.args.join(" ") }], end: { code: 0 } })
    }))))

  it.scoped("what is read belongs to its reader, in pieces of 64 KiB at most", () =>
    Effect.gen(function*() {
      const sizes: Array<number> = []
      const take = (_: OutputSource, bytes: Uint8Array) => {
        sizes.push(bytes.length)
        bytes.fill(0)
        return true
      }
      yield* spawn(p, take)
      const { heard } = yield* spawn(p)
      expect(sizes).toEqual([65_536, 65_536, 8_928])
      expect(heard.map((_) => "text" in _ ? _.text : "").join("")).toBe("x".repeat(140_000))
    }).pipe(simulate({ output: [{ data: new Uint8Array(140_000).fill(120) }] })))

  it.scopedLive("without TestClock the time is real", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p)
      expect(heard).toEqual([])
      yield* process.awaitGone
      expect(heard.map((_) => "exit" in _ ? _.exit : undefined)).toContainEqual(exited(3))
    }).pipe(simulate({ output: [{ at: 5, data: "x" }], end: { at: 10, code: 3 } })))
})

describe("start errors", () => {
  it.scoped("a command without a script is NotFound", () =>
    Effect.gen(function*() {
      for (const command of ["q", "toString", "__proto__"]) {
        const error = yield* Effect.flip(spawn({ command }))
        expect(error).toMatchObject({ _tag: "JobStartError", reason: "NotFound", command })
      }
      expect(yield* trace).toEqual([])
    }).pipe(simulate({})))

  it.scoped("failsToStart gives every reason, and leaves no trace", () =>
    Effect.gen(function*() {
      for (const reason of JobStartReason.literals) {
        const error = yield* Effect.flip(spawn({ command: "p", args: [reason] }))
        expect(error).toMatchObject({ _tag: "JobStartError", reason, command: "p" })
      }
      expect(yield* trace).toEqual([])
    }).pipe(Effect.provide(SimulatedProcesses.layer({
      p: (spec) => ({ failsToStart: JobStartReason.literals.find((reason) => reason === spec.args[0]) })
    }))))

  it.scoped("a script that is wrong is an error, not a defect", () =>
    Effect.gen(function*() {
      for (const command of ["throws", "time", "code"]) {
        expect(yield* Effect.flip(spawn({ command }))).toMatchObject({ reason: "Unknown", command })
      }
    }).pipe(Effect.provide(SimulatedProcesses.layer({
      throws: () => {
        throw new Error("no script today")
      },
      time: { end: { at: "never" as "1 second", code: 0 } },
      code: { end: { code: 0.5 } }
    }))))
})

describe("signals", () => {
  const harmless: ReadonlyArray<Signal> = [
    "SIGCHLD",
    "SIGCONT",
    "SIGURG",
    "SIGWINCH",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGSTOP"
  ]

  it.scoped("each signal does what it does to a real job", () =>
    Effect.gen(function*() {
      const otherName: Partial<Record<Signal, Signal>> = { SIGIOT: "SIGABRT", SIGPOLL: "SIGIO" }
      for (const signal of Signal.literals) {
        const { heard, process } = yield* spawn(p)
        yield* process.signal(signal)
        expect(heard).toEqual(
          harmless.includes(signal) ? [] : [...ends(0), { at: 0, exit: killed(otherName[signal] ?? signal) }]
        )
      }
    }).pipe(simulate({})))

  it.scoped("what a process ignores does not end it, SIGKILL does", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p)
      for (const signal of Signal.literals) {
        if (signal !== "SIGKILL") yield* process.signal(signal)
      }
      expect(yield* process.isGone).toBe(false)
      yield* TestClock.adjust("5 minutes")
      yield* process.signal("SIGKILL")
      expect(heard).toEqual([...ends(5 * minute), { at: 5 * minute, exit: killed("SIGKILL") }])
    }).pipe(simulate({ ignores: Signal.literals })))

  it.scoped("a stopped process does nothing until SIGCONT, and then catches up", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p)
      yield* process.signal("SIGSTOP")
      yield* TestClock.adjust("2 minutes")
      expect(heard).toEqual([])
      yield* process.signal("SIGCONT")
      expect(heard).toEqual([{ at: 2 * minute, source: "stdout", text: "a" }])
      yield* TestClock.adjust("1 minute")
      expect(heard.slice(1)).toEqual([...ends(3 * minute), { at: 3 * minute, exit: exited(0) }])
    }).pipe(simulate({
      ignores: ["SIGSTOP", "SIGCONT"],
      output: [{ at: "1 minute", data: "a" }],
      end: { at: "3 minutes", code: 0 }
    })))

  it.scoped("a stopped process gets its signals with SIGCONT, before it goes on", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p)
      yield* process.signal("SIGSTOP")
      yield* process.signal("SIGHUP")
      yield* process.signal("SIGTERM")
      yield* process.signal("SIGUSR1")
      yield* TestClock.adjust("2 minutes")
      expect(heard).toEqual([])
      yield* process.signal("SIGCONT")
      expect(heard).toEqual([...ends(2 * minute), { at: 2 * minute, exit: killed("SIGTERM") }])
    }).pipe(simulate({ ignores: ["SIGHUP"], output: [{ at: "1 minute", data: "a" }] })))

  it.scoped("SIGKILL ends a stopped process", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p)
      yield* process.signal("SIGSTOP")
      yield* process.signal("SIGKILL")
      expect(heard).toEqual([...ends(0), { at: 0, exit: killed("SIGKILL") }])
    }).pipe(simulate({})))

  it.scoped("a signal to a group that is gone is none", () =>
    Effect.gen(function*() {
      const { process } = yield* spawn(p)
      const before = yield* trace
      yield* process.signal("SIGKILL")
      expect(yield* trace).toEqual(before)
    }).pipe(simulate({ end: { code: 0 } })))

  it.scoped("a listener may signal from within its calls", () =>
    Effect.gen(function*() {
      const spawner = yield* ProcessSpawner
      const { heard, listener } = yield* listen()
      const process = yield* spawner.spawn(JobSpec.make(p), {
        ...listener,
        onOutput: (source, bytes) => {
          Effect.runSync(process.signal("SIGKILL"))
          return listener.onOutput(source, bytes)
        }
      })
      yield* TestClock.adjust(2)
      expect(heard).toEqual([
        ...ends(1),
        { at: 1, exit: killed("SIGKILL") },
        { at: 1, source: "stdout", text: "a" }
      ])
    }).pipe(simulate({ output: [{ at: 1, data: "a" }, { data: "b" }], end: { code: 0 } })))
})

describe("children", () => {
  it.scoped("a group is gone when its last process is, and the leader's exit is told before", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p)
      const gone = yield* Effect.fork(Effect.zipRight(process.awaitGone, Clock.currentTimeMillis))
      yield* TestClock.adjust("1 minute")
      expect(heard).toEqual([...ends(0), { at: 0, exit: exited(0) }])
      expect(yield* process.isGone).toBe(false)
      yield* TestClock.adjust("1 hour")
      expect(yield* Fiber.join(gone)).toBe(2 * minute)
      expect(yield* process.isGone).toBe(true)
    }).pipe(simulate({ end: { code: 0 }, children: [{ end: { at: "2 minutes", code: 1 } }] })))

  it.scoped("a signal reaches the whole group, with or without its leader", () =>
    Effect.gen(function*() {
      const { process } = yield* spawn(p)
      yield* process.signal("SIGTERM")
      yield* process.signal("SIGKILL")
      expect(yield* process.isGone).toBe(true)
      expect(yield* trace).toEqual([
        { at: 0, _tag: "Spawned", pid: 1000, command: "p" },
        { at: 0, _tag: "Spawned", pid: 1001, command: "p" },
        { at: 0, _tag: "Spawned", pid: 1002, command: "p" },
        { at: 0, _tag: "Spawned", pid: 1003, command: "p" },
        { at: 0, _tag: "Signalled", pid: 1000, command: "p", signal: "SIGTERM" },
        { at: 0, _tag: "Exited", pid: 1000, command: "p", signal: "SIGTERM" },
        { at: 0, _tag: "Exited", pid: 1002, command: "p", signal: "SIGTERM" },
        { at: 0, _tag: "Exited", pid: 1003, command: "p", signal: "SIGTERM" },
        { at: 0, _tag: "Signalled", pid: 1000, command: "p", signal: "SIGKILL" },
        { at: 0, _tag: "Exited", pid: 1001, command: "p", signal: "SIGKILL" }
      ])
    }).pipe(simulate({
      children: [{ ignores: ["SIGTERM"], children: [{}] }, { failsToStart: "NotFound", children: [{}] }, {}]
    })))

  it.scoped("a child that writes holds the pipes until it ends", () =>
    Effect.gen(function*() {
      const { heard } = yield* spawn(p)
      yield* TestClock.adjust("1 hour")
      expect(heard).toEqual([
        { at: 0, exit: exited(0) },
        { at: minute, source: "stderr", text: "late" },
        ...ends(minute)
      ])
    }).pipe(simulate({
      end: { code: 0 },
      children: [{ output: [{ at: "1 minute", source: "stderr", data: "late" }], end: { code: 0 } }]
    })))

  it.scoped("output of a child without the pipes goes nowhere", () =>
    Effect.gen(function*() {
      const { heard } = yield* spawn(p)
      yield* TestClock.adjust("1 hour")
      expect(heard).toEqual([...ends(minute), { at: minute, exit: exited(0) }])
    }).pipe(simulate({
      end: { at: "1 minute", code: 0 },
      children: [{ holdsPipes: false, output: [{ data: "x" }], end: { code: 0 } }]
    })))

  it.scoped("what has escaped, and its children, are not of the group", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p)
      yield* process.signal("SIGKILL")
      yield* process.awaitGone
      expect(heard).toEqual([{ at: 0, exit: killed("SIGKILL") }])
      yield* TestClock.adjust("1 hour")
      expect(heard.slice(1)).toEqual(ends(60 * minute))
      expect((yield* trace).filter((_) => _._tag === "Exited").map((_) => [_.at, _.pid])).toEqual([
        [0, 1000],
        [60 * minute, 1001],
        [60 * minute, 1002]
      ])
    }).pipe(simulate({
      children: [{
        escaped: true,
        holdsPipes: true,
        end: { at: "1 hour", code: 0 },
        children: [{ end: { at: "1 hour", code: 0 } }]
      }]
    })))
})

describe("backpressure", () => {
  it.scoped("after a refusal the writer waits, and with it all that comes after", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p, (_, bytes) => bytes[0] !== 97)
      yield* TestClock.adjust("1 minute")
      expect(heard.map((_) => "text" in _ ? _.text : _)).toEqual(["a", "e"])
      yield* process.resumeOutput
      expect(heard.slice(2)).toEqual([
        { at: minute, source: "stdout", text: "b" },
        { at: minute, source: "stdout", text: "c" },
        ...ends(minute),
        { at: minute, exit: exited(0) }
      ])
    }).pipe(simulate({
      output: [
        { at: 1, data: "a" },
        { at: 2, source: "stderr", data: "e" },
        { at: 3, data: "b" },
        { at: 4, data: "c" }
      ],
      end: { code: 0 }
    })))

  it.scoped("one refusal is good for one piece", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p, () => false)
      expect(heard.length).toBe(1)
      yield* process.resumeOutput
      expect(heard.length).toBe(2)
      yield* process.resumeOutput
      expect(heard.slice(3)).toEqual([{ at: 0, endOf: "stderr" }, { at: 0, exit: exited(0) }])
      yield* process.resumeOutput
      expect(heard.slice(5)).toEqual([{ at: 0, endOf: "stdout" }])
    }).pipe(simulate({ output: [{ data: new Uint8Array(140_000) }], end: { code: 0 } })))

  it.scoped("the refused source alone waits", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p, () => false)
      yield* TestClock.adjust(2)
      expect(heard).toEqual([{ at: 1, source: "stdout", text: "a" }, { at: 1, source: "stderr", text: "c" }])
      yield* process.resumeOutput
      expect(heard.slice(2)).toEqual([{ at: 2, source: "stdout", text: "b" }])
    }).pipe(simulate({
      output: [{ at: 1, data: "a" }, { data: "b" }],
      children: [{ output: [{ at: 1, source: "stderr", data: "c" }] }]
    })))

  it.scoped("a signal ends a writer that waits; what it had not written is lost", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p, () => false)
      yield* process.signal("SIGKILL")
      expect(heard.slice(1)).toEqual([{ at: 0, endOf: "stderr" }, { at: 0, exit: killed("SIGKILL") }])
      yield* process.resumeOutput
      expect(heard.slice(3)).toEqual([{ at: 0, endOf: "stdout" }])
    }).pipe(simulate({ output: [{ data: "a" }, { data: "b" }] })))

  it.scoped("the end of a source that is not read is told to the reader that reads on", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p, () => false)
      expect(heard.slice(1)).toEqual([{ at: 0, endOf: "stderr" }, { at: 0, exit: exited(0) }])
      yield* process.resumeOutput
      expect(heard.slice(3)).toEqual([{ at: 0, endOf: "stdout" }])
      yield* process.resumeOutput
      yield* process.cutOutput
      expect(heard.length).toBe(4)
    }).pipe(simulate({ output: [{ data: "a" }], end: { code: 0 } })))
})

describe("cutOutput", () => {
  it.scoped("ends both sources at once, and who writes then gets SIGPIPE", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p)
      yield* process.cutOutput
      yield* process.cutOutput
      expect(heard).toEqual(ends(0))
      yield* TestClock.adjust(9)
      expect(heard.slice(2)).toEqual([{ at: 5, exit: killed("SIGPIPE") }])
    }).pipe(simulate({ output: [{ at: 5, data: "a" }], end: { code: 0 } })))

  it.scoped("frees a writer that waits", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p, () => false)
      yield* process.cutOutput
      expect(heard.slice(1)).toEqual([...ends(0), { at: 0, exit: exited(0) }])
    }).pipe(simulate({ output: [{ data: "a" }, { data: "b" }], ignores: ["SIGPIPE"], end: { code: 0 } })))

  it.scoped("frees the reader of a pipe that an escaped process holds", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p)
      expect(heard).toEqual([{ at: 0, exit: exited(0) }])
      yield* TestClock.adjust("1 second")
      yield* process.cutOutput
      expect(heard.slice(1)).toEqual(ends(1000))
    }).pipe(simulate({ end: { code: 0 }, children: [{ escaped: true, holdsPipes: true }] })))
})

describe("reactions to signals", () => {
  const heardOf = (heard: ReadonlyArray<Heard>) =>
    heard.flatMap((_): ReadonlyArray<readonly [at: number, what: string | Ended]> =>
      "text" in _ ? [[_.at, _.text]] : "exit" in _ ? [[_.at, _.exit]] : []
    )

  it.scoped("begin when the signal comes, each time one comes, while the script goes on", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p)
      yield* process.signal("SIGHUP")
      yield* TestClock.adjust(500)
      yield* process.signal("SIGHUP")
      yield* TestClock.adjust(500)
      yield* process.signal("SIGTERM")
      yield* TestClock.adjust("1 minute")
      expect(heardOf(heard)).toEqual([
        [0, "reload"],
        [500, "reload"],
        [900, "tick"],
        [1000, "reloaded"],
        [1000, "bye"],
        [1500, "reloaded"],
        [3000, exited(3)]
      ])
    }).pipe(simulate({
      output: [{ at: 900, data: "tick" }],
      end: { at: "1 hour", code: 0 },
      onSignal: {
        SIGHUP: { output: [{ data: "reload" }, { at: "1 second", data: "reloaded" }] },
        SIGTERM: { output: [{ data: "bye" }], end: { at: "2 seconds", code: 3 } }
      }
    })))

  it.scoped("stand before what ignores says, know both names of a signal, and cannot catch SIGKILL or SIGSTOP", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p)
      yield* process.signal("SIGTERM")
      yield* process.signal("SIGABRT")
      yield* process.signal("SIGSTOP")
      yield* process.signal("SIGCONT")
      yield* process.signal("SIGKILL")
      expect(heardOf(heard)).toEqual([[0, "term"], [0, "abort"], [0, "continued"], [0, killed("SIGKILL")]])
    }).pipe(simulate({
      ignores: ["SIGTERM"],
      onSignal: {
        SIGTERM: { output: [{ data: "term" }] },
        SIGIOT: { output: [{ data: "abort" }] },
        SIGCONT: { output: [{ data: "continued" }] },
        SIGSTOP: { output: [{ data: "no" }] },
        SIGKILL: { output: [{ data: "no" }] }
      }
    })))

  it.scoped("of a stopped process begin when it is continued, once for each signal", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p)
      yield* process.signal("SIGSTOP")
      yield* process.signal("SIGTERM")
      yield* process.signal("SIGTERM")
      yield* TestClock.adjust(5)
      expect(heard).toEqual([])
      yield* process.signal("SIGCONT")
      yield* TestClock.adjust(5)
      expect(heardOf(heard)).toEqual([[5, "bye"], [10, exited(0)]])
    }).pipe(simulate({ onSignal: { SIGTERM: { output: [{ data: "bye" }], end: { at: 5, code: 0 } } } })))

  it.scoped("are also those of children", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p)
      yield* process.signal("SIGTERM")
      yield* TestClock.adjust(5)
      expect(heardOf(heard)).toEqual([[0, killed("SIGTERM")], [5, "last words"]])
      yield* process.awaitGone
    }).pipe(simulate({
      children: [{
        holdsPipes: true,
        onSignal: { SIGTERM: { output: [{ at: 5, data: "last words" }], end: { code: 0 } } }
      }]
    })))

  it.scoped("of SIGPIPE write nothing: there is nobody to write to", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn(p)
      yield* process.cutOutput
      yield* TestClock.adjust(10)
      expect(heardOf(heard)).toEqual([[3, exited(9)]])
    }).pipe(simulate({
      output: [{ at: 1, data: "a" }],
      onSignal: { SIGPIPE: { output: [{ data: "oh" }], end: { at: 2, code: 9 } } }
    })))

  it.effect("let a job end well within its grace period", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(JobSpec.make(p))
      const stopping = yield* Effect.fork(jobs.stop(id))
      yield* TestClock.adjust("4 seconds")
      expect(yield* Fiber.join(stopping)).toEqual(exited(0))
      expect((yield* trace).map(({ _tag, at, signal }) => [at, _tag, signal])).toEqual([
        [0, "Spawned", undefined],
        [0, "Signalled", "SIGTERM"],
        [0, "Signalled", "SIGCONT"],
        [4000, "Exited", undefined]
      ])
    }).pipe(Effect.provide(layer), simulate({ onSignal: { SIGTERM: { end: { at: "4 seconds", code: 0 } } } })))
})

describe("standard input", () => {
  const write = (process: Process, text: string) => process.writeInput(Buffer.from(text))
  const texts = (heard: ReadonlyArray<Heard>) => heard.flatMap((_) => "text" in _ ? [[_.at, _.text]] : [])

  it.scoped("takes bytes until the program ends", () =>
    Effect.gen(function*() {
      const { process } = yield* spawn({ ...p, stdin: "pipe" })
      expect(yield* process.writeInput(Uint8Array.of(1))).toBe(true)
      yield* TestClock.adjust(1)
      expect(yield* process.writeInput(Uint8Array.of(1))).toBe(false)
    }).pipe(simulate({ end: { at: 1, code: 0 } })))

  it.scoped("takes none once closed, or when the spec did not ask for it", () =>
    Effect.gen(function*() {
      const { process } = yield* spawn({ ...p, stdin: "pipe" })
      yield* process.closeInput
      expect(yield* process.writeInput(Uint8Array.of(1))).toBe(false)
      const { process: other } = yield* spawn(p)
      expect(yield* other.writeInput(Uint8Array.of(1))).toBe(false)
    }).pipe(simulate({})))

  it.scoped("is answered line by line, wherever the bytes were cut; other lines by what stands for them", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn({ ...p, stdin: "pipe" })
      for (const byte of Buffer.from("status\nüben\n__proto__\nquit")) yield* process.writeInput(Uint8Array.of(byte))
      expect(texts(heard)).toEqual([[0, "fine"], [0, "well"], [0, "what?"]])
      yield* process.closeInput
      expect(heard.slice(3)).toEqual([...ends(0), { at: 0, exit: exited(0) }])
    }).pipe(simulate({
      onInput: {
        status: { output: [{ data: "fine" }] },
        üben: { output: [{ data: "well" }] },
        quit: { end: { code: 0 } },
        "*": { output: [{ data: "what?" }] }
      }
    })))

  it.scoped("is read on when a line has been answered, and makes its writer wait until then", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn({ ...p, stdin: "pipe" })
      expect(yield* write(process, "slow\nslow\n")).toBe(true)
      expect(yield* write(process, "x".repeat(65_535))).toBe(true)
      const writer = yield* Effect.fork(write(process, "x\n"))
      yield* TestClock.adjust("1 second")
      expect(writer.unsafePoll()).toBe(null)
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(writer)).toBe(true)
      expect(texts(heard)).toEqual([[1000, "done"], [2000, "done"], [2000, "65536"]])
    }).pipe(simulate({
      onInput: (line) => ({
        output: [line === "slow" ? { at: "1 second", data: "done" } : { data: `${line.length}` }]
      })
    })))

  it.scoped("is not read while the program waits for a reader of its output, or is stopped", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn({ ...p, stdin: "pipe" }, () => false)
      yield* write(process, "a\nb\n")
      expect(texts(heard)).toEqual([[0, "a"]])
      yield* process.signal("SIGSTOP")
      yield* process.resumeOutput
      expect(texts(heard)).toEqual([[0, "a"]])
      yield* process.signal("SIGCONT")
      expect(texts(heard)).toEqual([[0, "a"], [0, "b"]])
    }).pipe(simulate({ onInput: (line) => ({ output: [{ data: line }] }) })))

  it.scoped("makes the writer wait of a program that does not read, and tells it when that ends", () =>
    Effect.gen(function*() {
      const { process } = yield* spawn({ ...p, stdin: "pipe" })
      expect(yield* write(process, "x".repeat(65_535))).toBe(true)
      const givenUp = yield* Effect.fork(write(process, "x"))
      const writer = yield* Effect.fork(write(process, "x"))
      yield* TestClock.adjust(1)
      yield* Fiber.interrupt(givenUp)
      expect(writer.unsafePoll()).toBe(null)
      yield* process.signal("SIGTERM")
      expect(yield* Fiber.join(writer)).toBe(false)
    }).pipe(simulate({})))

  it.scoped("is at its end at once, if the spec does not ask for a pipe", () =>
    Effect.gen(function*() {
      const { heard } = yield* spawn(p)
      expect(heard).toEqual([...ends(0), { at: 0, exit: exited(4) }])
    }).pipe(simulate({ onInputEnd: { end: { code: 4 } } })))

  it.scoped("aborts a program whose function throws", () =>
    Effect.gen(function*() {
      const { heard, process } = yield* spawn({ ...p, stdin: "pipe" })
      expect(yield* write(process, "oops\nmore\n")).toBe(true)
      expect(heard).toEqual([
        { at: 0, source: "stderr", text: "RangeError: oops\n" },
        ...ends(0),
        { at: 0, exit: killed("SIGABRT") }
      ])
    }).pipe(simulate({
      onInput: (line) => {
        throw new RangeError(line)
      }
    })))

  it.effect("of a job comes through the coordinator, to its end", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(JobSpec.make({ ...p, stdin: "pipe" }))
      yield* Stream.run(Stream.make(Buffer.from("b\n"), Buffer.from("a\n")), jobs.input(id))
      expect(yield* jobs.wait(id)).toEqual(exited(0))
      expect(yield* Stream.mkString(Stream.decodeText(jobs.stdout(id)))).toBe("B.A.")
    }).pipe(
      Effect.provide(layer),
      simulate({
        onInput: (line) => ({ output: [{ data: `${line.toUpperCase()}.` }] }),
        onInputEnd: { end: { code: 0 } }
      })
    ))
})

describe("commands that are not listed", () => {
  it.scoped("have the script of \"*\", which may look at their arguments", () =>
    Effect.gen(function*() {
      const { heard } = yield* spawn({ command: "anything", args: ["Ada"] })
      expect(heard[0]).toEqual({ at: 0, source: "stdout", text: "anything Ada" })
      const listed = yield* spawn(p)
      expect(listed.heard).toEqual([...ends(0), { at: 0, exit: exited(1) }])
    }).pipe(Effect.provide(SimulatedProcesses.layer({
      p: { end: { code: 1 } },
      "*": ({ args, command }) => ({ output: [{ data: [command, ...args].join(" ") }] })
    }))))

  it.scoped("fail to start otherwise, and the error says which are", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(spawn({ command: "gti", args: ["hunter2"] }))
      expect(error).toMatchObject({ _tag: "JobStartError", reason: "NotFound" })
      const text = String((error as JobStartError).cause)
      expect(text).toContain("\"git\", \"npm\"")
      expect(text).not.toContain("hunter2")
    }).pipe(Effect.provide(SimulatedProcesses.layer({ git: {}, npm: {} }))))
})

describe("scopes", () => {
  it.effect("closing one kills what is left of its group, and closes the pipes", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { heard } = yield* Scope.extend(spawn(p), scope)
      yield* TestClock.adjust(1)
      yield* Scope.close(scope, Exit.void)
      expect(heard).toEqual([{ at: 1, exit: killed("SIGKILL") }, ...ends(1)])
      yield* TestClock.adjust(9)
      expect(heard.length).toBe(3)
      expect((yield* trace).slice(3)).toEqual([
        { at: 1, _tag: "Exited", pid: 1000, command: "p", signal: "SIGKILL" },
        { at: 1, _tag: "Exited", pid: 1001, command: "p", signal: "SIGKILL" },
        { at: 5, _tag: "Exited", pid: 1002, command: "p", signal: "SIGPIPE" }
      ])
    }).pipe(simulate({
      ignores: ["SIGTERM"],
      children: [{}, { escaped: true, output: [{ at: 5, data: "nobody reads this" }] }]
    })))

  it.effect("closing the layer leaves nothing that would happen later", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(SimulatedProcesses.layer({ p: script }), scope)
      yield* Scope.extend(Effect.provide(spawn(p), context), scope)
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust("1 hour")
      expect((yield* Effect.provide(trace, context)).map((_) => [_._tag, _.pid])).toEqual([
        ["Spawned", 1000],
        ["Spawned", 1001],
        ["Exited", 1000]
      ])
    }))
  const script = {
    end: { at: "1 minute", code: 0 },
    children: [{ escaped: true, end: { at: "1 minute", code: 0 } }]
  } as const
})

describe("the clock", () => {
  /** Thirty processes of three kinds, spawned at different times, with ends and signals at the same times. */
  const busy = Effect.gen(function*() {
    const { heard, listener } = yield* listen()
    const spawner = yield* ProcessSpawner
    for (let round = 0; round < 5; round++) {
      const processes = yield* Effect.forEach(
        ["a", "b", "c"],
        (command) => spawner.spawn(JobSpec.make({ command }), listener)
      )
      yield* TestClock.adjust(10)
      yield* Effect.forEach(processes, (process) => process.signal("SIGTERM"), { concurrency: "unbounded" })
    }
    yield* TestClock.adjust("1 minute")
    return { heard, trace: yield* trace }
  }).pipe(
    Effect.scoped,
    Effect.provide(SimulatedProcesses.layer({
      a: { ignores: ["SIGTERM"], output: [{ at: 20, data: "a" }], end: { code: 0 }, children: [{}] },
      b: { output: [{ at: 10, data: "b" }, { at: 20, data: "b" }], end: { at: 30, code: 0 } },
      c: {
        end: { at: 20, code: 0 },
        children: [{ ignores: ["SIGTERM"], output: [{ at: 20, data: "c" }], end: { code: 0 } }]
      }
    }))
  )

  it.effect("the same program leaves the same trace, every time", () =>
    Effect.gen(function*() {
      const runs = yield* Effect.forEach(Array.from({ length: 20 }), () => Effect.provide(busy, freshClock))
      expect(runs[0]?.trace.length).toBeGreaterThan(40)
      for (const run of runs) expect(run).toEqual(runs[0])
    }))
  const freshClock = Layer.fresh(TestClock.defaultTestClock)

  it.scoped("at one time output comes before ends, the leader before its children, the older job before the younger", () =>
    Effect.gen(function*() {
      const { heard, listener } = yield* listen()
      const spawner = yield* ProcessSpawner
      yield* spawner.spawn(JobSpec.make({ command: "p", args: ["1"] }), listener)
      yield* spawner.spawn(JobSpec.make({ command: "p", args: ["2"] }), listener)
      yield* TestClock.adjust(1)
      expect(heard.map((_) => "text" in _ ? _.text : "exit" in _ ? "exit" : "end")).toEqual(
        ["leader 1", "child 1", "leader 2", "child 2", "exit", "end", "end", "exit", "end", "end"]
      )
      expect((yield* trace).slice(4).map((_) => _.pid)).toEqual([1000, 1001, 1002, 1003])
    }).pipe(Effect.provide(SimulatedProcesses.layer({
      p: ({ args: [name] }) => ({
        output: [{ at: 1, data: `leader ${name}` }],
        end: { code: 0 },
        children: [{ output: [{ at: 1, data: `child ${name}` }], end: { code: 0 } }]
      })
    }))))

  it.effect("one fiber waits for all, and none once nothing is left to happen", () =>
    Effect.gen(function*() {
      const fibers = new Set<Fiber.RuntimeFiber<void>>()
      const simulation = new Simulation({
        clock: yield* Effect.clock,
        fork: (alarm) => {
          const fiber = Effect.runFork(alarm)
          fibers.add(fiber)
          fiber.addObserver(() => fibers.delete(fiber))
          return fiber
        },
        record: () => {}
      })
      const { listener } = yield* listen()
      const start = (at: number) =>
        simulation.spawn(
          JobSpec.make({ command: "p" }),
          {
            actions: [{ _tag: "End", at, status: exited(0) }],
            ignores: new Set(),
            onSignal: new Map(),
            input: undefined,
            closesInput: false,
            escaped: false,
            holdsPipes: true,
            children: []
          },
          listener
        )
      const processes = [5, 3, 1, 4, 2].map(start)
      const settled = Effect.async<void>((resume) => {
        setImmediate(() => resume(Effect.void))
      })
      yield* settled
      expect(fibers.size).toBe(1)
      yield* TestClock.adjust(3)
      expect(fibers.size).toBe(1)
      for (const process of processes) yield* process.signal("SIGKILL")
      yield* settled
      expect(fibers.size).toBe(0)
    }))
})
