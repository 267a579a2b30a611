import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { spawn as spawnChild } from "node:child_process"
import { createHash, randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import * as JobSpec from "../src/JobSpec.ts"
import { Exited, Killed } from "../src/JobStatus.ts"
import * as NodeProcessSpawner from "../src/NodeProcessSpawner.ts"
import { ProcessSpawner } from "../src/ProcessSpawner.ts"
import * as Hosts from "./fixtures/hosts.ts"
import * as Processes from "./fixtures/processes.ts"
import { programs, sh, through } from "./fixtures/programs.ts"
import { Recorder } from "./fixtures/recorder.ts"
import { suite } from "./ProcessSpawner.suite.ts"
import { settings } from "./utils.ts"

const layer = Layer.provide(NodeProcessSpawner.layer, settings())

for (const transport of ["pipe", "socket"] as const) {
  suite(`NodeProcessSpawner, by ${transport}s`, layer, through(transport), {
    guarantee: "group",
    pipes: "roomy",
    limits: "set",
    joins: true,
    kill: (pid) => Processes.kill(Number(pid), "SIGKILL")
  })
}

const test = (promise: string, body: Effect.Effect<void, unknown, ProcessSpawner | Scope.Scope>) =>
  it.scopedLive(promise, () => Effect.provide(body, layer))

const spawn = (spec: JobSpec.JobSpec, recorder = new Recorder()) =>
  Effect.gen(function*() {
    const spawner = yield* ProcessSpawner
    return { recorder, process: yield* spawner.spawn(spec, recorder) }
  })

/** Runs a program to its end, and gives its output. */
const run = (spec: JobSpec.JobSpec) =>
  Effect.gen(function*() {
    const { process, recorder } = yield* spawn(spec)
    const end = yield* recorder.end
    yield* process.awaitGone
    return { end, stdout: recorder.text("stdout"), stderr: recorder.text("stderr") }
  })

const reasonOf = (spec: JobSpec.JobSpec) =>
  Effect.map(Effect.flip(spawn(spec)), (error) => "reason" in error ? error.reason : error)

const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(tmpdir(), "joblib-"))),
  (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
)

const descriptors = () => Fs.readdirSync("/proc/self/fd").length

describe("NodeProcessSpawner, with real processes", () => {
  describe("surroundings", () => {
    test(
      "the host's environment, with variables set and unset, and the directory",
      Effect.gen(function*() {
        const directory = Fs.realpathSync(tmpdir())
        const { stdout } = yield* run(sh("echo $HERE; echo ${HOME-unset}; echo ${PATH:+set}; pwd", {
          env: { HERE: "ünï", HOME: null },
          cwd: directory
        }))
        expect(stdout).toBe(`ünï\nunset\nset\n${directory}\n`)
      })
    )

    test(
      "the host's environment is that of the moment",
      Effect.gen(function*() {
        const name = "JOBLIB_TEST_MOMENT"
        yield* Effect.addFinalizer(() => Effect.sync(() => delete process.env[name]))
        for (const value of ["", "1", "2"]) {
          process.env[name] = value
          expect((yield* run(sh(`echo $${name}`))).stdout).toBe(`${value}\n`)
        }
      })
    )

    test(
      "an environment that does not extend the host's has only what is in the spec, and the mark of the guardian",
      Effect.gen(function*() {
        const { stdout } = yield* run(JobSpec.make({ command: "/usr/bin/env", env: { A: "1" }, extendEnv: false }))
        expect(stdout).toMatch(/^A=1\nJOBLIB_\w+=1\n$/)
      })
    )

    test(
      "arguments arrive as they are",
      Effect.gen(function*() {
        const args = ["a b", "", "$HOME", "*", "\"'\\", "\n", "--", "ü"]
        const { stdout } = yield* run(
          JobSpec.make({
            command: process.execPath,
            args: ["-p", "JSON.stringify(process.argv.slice(1))", "--", ...args]
          })
        )
        expect(JSON.parse(stdout)).toEqual(args)
      })
    )

    test(
      "a shell runs the words as one line",
      Effect.gen(function*() {
        expect(yield* run(JobSpec.make({ command: "echo", args: ["$((1 + 1));", "exit", "3"], shell: true })))
          .toEqual({ end: new Exited({ code: 3 }), stdout: "2\n", stderr: "" })
        expect((yield* run(JobSpec.make({ command: "echo $0", shell: "/bin/sh" }))).stdout).toBe("/bin/sh\n")
      })
    )

    it.scopedLive("guarantees no more than the leader without a guardian, and leaves no mark", () =>
      Effect.gen(function*() {
        expect((yield* ProcessSpawner).guarantee).toBe("leader")
        const { stdout } = yield* run(JobSpec.make({ command: "/usr/bin/env", extendEnv: false }))
        expect(stdout).toBe("")
      }).pipe(Effect.provide(Layer.provide(NodeProcessSpawner.layer, settings({ guardian: "off" })))))
  })

  describe("start", () => {
    test(
      "tells what was wrong with the program from what was wrong with the directory",
      Effect.gen(function*() {
        const cwd = tmpdir()
        expect(yield* reasonOf(JobSpec.make({ command: "joblib-no-such-program", cwd }))).toBe("NotFound")
        expect(yield* reasonOf(JobSpec.make({ command: "./joblib-no-such-program", cwd }))).toBe("NotFound")
        expect(yield* reasonOf(JobSpec.make({ command: "/dev/null/program", cwd }))).toBe("NotFound")
        expect(yield* reasonOf(JobSpec.make({ command: `/${"x".repeat(300)}` }))).toBe("NotFound")
        expect(yield* reasonOf(JobSpec.make({ command: "/", cwd }))).toBe("PermissionDenied")
        expect(yield* reasonOf(JobSpec.make({ command: "true", cwd: "/dev/null" }))).toBe("InvalidDirectory")
        expect(yield* reasonOf(JobSpec.make({ command: "true", cwd: `/${"x".repeat(300)}` }))).toBe("InvalidDirectory")
        expect(yield* reasonOf(JobSpec.make({ command: "joblib-no-such-program", cwd: "/dev/null" })))
          .toBe("InvalidDirectory")
        expect(yield* reasonOf(JobSpec.make({ command: "true", env: { A: "x".repeat(4 * 1024 * 1024) } })))
          .toBe("ArgumentListTooLong")
      })
    )

    test(
      "that fails leaves no descriptor behind",
      Effect.gen(function*() {
        yield* run(programs.succeeds)
        const before = descriptors()
        for (let round = 0; round < 20; round++) {
          for (const spec of Object.values(programs.failures)) yield* reasonOf({ ...spec, stdin: "pipe" })
        }
        yield* Processes.eventually(descriptors, (count) => count <= before)
      })
    )

    it.scopedLive("fails with ResourceExhausted while the host is out of descriptors, and no more than one start of Node's own loses any", () =>
      Effect.gen(function*() {
        const program = yield* Hosts.build("exhausted.ts")
        const host = spawnChild("sh", ["-c", "ulimit -n 64; exec \"$0\" \"$1\"", process.execPath, program], {
          stdio: ["ignore", "pipe", "inherit"]
        })
        const says = Hosts.waitForOutput(host.stdout)
        const [, output = ""] = yield* says(/^([^]*)\{"before":\d+,"after":\d+\}\n$/)
        const starts = output.trim().split("\n").map((line): unknown => JSON.parse(line))
        expect(new Set(starts)).toEqual(new Set(["ResourceExhausted", "started"]))
        expect(starts[0]).toBe("ResourceExhausted")
        expect(starts.at(-1)).toBe("started")
        expect(yield* Hosts.waitForExit(host)).toBe(0)
      }))

    test(
      "into a scope that is closed already ends the process at once",
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        yield* Scope.close(scope, Exit.void)
        const { process, recorder } = yield* Scope.extend(spawn(programs.runs), scope)
        expect(yield* recorder.exit).toEqual(new Killed({ signal: "SIGKILL" }))
        yield* process.awaitGone
      })
    )
  })

  test(
    "a death by a real-time signal shows as Exited with code 0, as Node tells it; any other signal is told from an exit",
    Effect.gen(function*() {
      for (
        const [signal, end] of [
          ["RTMIN+3", new Exited({ code: 0 })],
          ["STKFLT", new Killed({ signal: "SIGSTKFLT" })],
          ["XFSZ", new Killed({ signal: "SIGXFSZ" })]
        ] as const
      ) {
        expect((yield* run(JobSpec.make({ command: `kill -s ${signal} $$`, shell: "/bin/bash" }))).end).toEqual(end)
      }
    })
  )

  describe("group", () => {
    test(
      "a signal reaches every member; one that ignores it keeps the group from being gone",
      Effect.gen(function*() {
        const { process, recorder } = yield* spawn(
          sh("(trap '' TERM; echo ready; exec sleep 600) & sleep 600 & wait")
        )
        yield* recorder.line("stdout")
        yield* process.signal("SIGTERM")
        expect(yield* recorder.exit).toEqual(new Killed({ signal: "SIGTERM" }))
        yield* Processes.eventually(() => Processes.inGroup(process.pid), (members) => members.length === 1)
        expect(yield* process.isGone).toBe(false)
        const gone = yield* Effect.fork(process.awaitGone)
        yield* process.signal("SIGKILL")
        yield* Fiber.join(gone)
        expect(Processes.inGroup(process.pid)).toEqual([])
      })
    )

    test(
      "is gone in the very turn in which its only member is reaped",
      Effect.gen(function*() {
        const recorder = new Recorder()
        const { process } = yield* spawn(programs.succeeds, recorder)
        yield* recorder.exit
        expect(yield* process.isGone).toBe(true)
      })
    )

    test(
      "of which only zombies are left that nobody reaps is gone",
      Effect.gen(function*() {
        // The parent of the member to die leaves the group, and becomes a sleep, which reaps nobody.
        const { process, recorder } = yield* spawn(
          sh("(sleep 600 & echo $!; exec setsid sh -c 'echo $$; exec sleep 601') & exit 0")
        )
        yield* recorder.until(() => recorder.text("stdout").split("\n").length > 2)
        const [zombie = "", parent = ""] = recorder.text("stdout").split("\n")
        yield* Processes.eventually(() => Processes.carrying("sleep\x00601"), (pids) => pids.includes(Number(parent)))
        expect(yield* process.isGone).toBe(false)
        Processes.kill(Number(zombie), "SIGKILL")
        yield* process.awaitGone
        expect(Fs.readFileSync(`/proc/${zombie}/stat`, "latin1")).toMatch(/\) Z /)
        yield* process.cutOutput
        yield* recorder.outputEnd
        Processes.kill(Number(parent), "SIGKILL")
      })
    )

    test(
      "that forks as fast as it can leaves no survivor of a SIGKILL",
      Effect.forEach([1, 2, 3, 4, 5], () =>
        Effect.gen(function*() {
          const { process, recorder } = yield* spawn(sh("echo ready; while :; do sleep 600 & done"))
          yield* recorder.line("stdout")
          yield* process.signal("SIGKILL")
          yield* process.awaitGone
          expect(Processes.inGroup(process.pid)).toEqual([])
        }), { discard: true })
    )

    test(
      "that closes with its scope leaves no member alive",
      Effect.gen(function*() {
        const { pid, process } = yield* Effect.scoped(Effect.gen(function*() {
          const { process, recorder } = yield* spawn(sh("trap '' TERM; sleep 600 & sleep 600 & echo ready; wait"))
          yield* recorder.line("stdout")
          return { process, pid: process.pid }
        }))
        yield* process.awaitGone
        expect(Processes.inGroup(pid)).toEqual([])
      })
    )

    test(
      "that was stopped runs its handler after SIGCONT",
      Effect.gen(function*() {
        const { process, recorder } = yield* spawn(
          sh("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done")
        )
        yield* recorder.line("stdout")
        yield* process.signal("SIGSTOP")
        yield* process.signal("SIGTERM")
        yield* process.signal("SIGCONT")
        expect(yield* recorder.end).toEqual(new Exited({ code: 7 }))
        expect(recorder.text("stdout")).toBe("ready\nbye\n")
      })
    )
  })

  describe("output", () => {
    test(
      "is binary, byte for byte",
      Effect.gen(function*() {
        const bytes = randomBytes(300_001)
        const { process, recorder } = yield* spawn(programs.copies)
        for (let at = 0, size = 1; at < bytes.length; at += size, size = size * 3 % 65_537) {
          yield* process.writeInput(bytes.subarray(at, at + size))
        }
        yield* process.closeInput
        yield* recorder.end
        expect(createHash("sha1").update(recorder.bytes("stdout")).digest("hex"))
          .toBe(createHash("sha1").update(bytes).digest("hex"))
      })
    )

    test(
      "comes once for each time that its reader asks, from a program that writes without end",
      Effect.gen(function*() {
        const recorder = new Recorder()
        recorder.accepts = () => false
        const { process } = yield* spawn(JobSpec.make({ command: "cat", args: ["/dev/zero"] }), recorder)
        for (let reads = 1; reads <= 200; reads++) {
          yield* recorder.until(() => recorder.reads("stdout") >= reads)
          // What would come unasked has had a turn of the event loop to do so.
          yield* Effect.promise(() => new Promise(setImmediate))
          expect(recorder.reads("stdout")).toBe(reads)
          yield* process.resumeOutput
        }
      })
    )

    test(
      "of one source goes on while the other pauses",
      Effect.gen(function*() {
        const recorder = new Recorder()
        recorder.accepts = (source) => source === "stderr"
        yield* spawn(sh("cat /dev/zero & head -c 1000000 /dev/zero >&2; wait"), recorder)
        yield* recorder.until(() => recorder.bytes("stderr").length === 1_000_000)
        expect(recorder.reads("stdout")).toBeLessThanOrEqual(1)
      })
    )

    test(
      "that came while the host was too busy to read is read before it is given up",
      Effect.gen(function*() {
        const marker = Path.join(yield* temporaryDirectory, "written")
        const { process, recorder } = yield* spawn(sh(
          "trap 'echo last words; : >$MARKER' USR1; echo ready; while :; do sleep 0.01; done",
          { env: { MARKER: marker } }
        ))
        yield* recorder.line("stdout")
        yield* process.signal("SIGUSR1")
        yield* Effect.zipRight(
          Effect.sync(() => {
            while (!Fs.existsSync(marker));
          }),
          process.cutOutput
        )
        yield* recorder.outputEnd
        expect(recorder.text("stdout")).toBe("ready\nlast words\n")
      })
    )
  })

  it.scopedLive("every descriptor is closed when all is over", () =>
    Effect.gen(function*() {
      yield* Effect.provide(run(programs.succeeds), layer)
      const before = descriptors()
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Effect.forEach(Array.from({ length: 20 }), () =>
          Effect.all([
            spawn(programs.runs),
            spawn(programs.neverReads),
            spawn(programs.leavesChild),
            run(programs.writes)
          ]))
        expect(descriptors()).toBeGreaterThan(before)
      })).pipe(Effect.provide(layer))
      yield* Processes.eventually(descriptors, (count) => count <= before)
    }))
})
