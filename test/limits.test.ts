import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { spawn as spawnChild } from "node:child_process"
import * as Fs from "node:fs"
import { setPriority, tmpdir } from "node:os"
import * as Path from "node:path"
import * as Prologue from "../src/internal/process/prologue.ts"
import { JobCoordinator } from "../src/JobCoordinator.ts"
import { InvalidJobSpec, JobStartError } from "../src/JobError.ts"
import * as JobSpec from "../src/JobSpec.ts"
import { Exited, Killed } from "../src/JobStatus.ts"
import * as NodeProcessSpawner from "../src/NodeProcessSpawner.ts"
import { ProcessSpawner } from "../src/ProcessSpawner.ts"
import * as Hosts from "./fixtures/hosts.ts"
import * as Processes from "./fixtures/processes.ts"
import { programs, sh } from "./fixtures/programs.ts"
import { Recorder } from "./fixtures/recorder.ts"
import * as Shells from "./fixtures/shells.ts"
import { suite } from "./ProcessSpawner.suite.ts"
import { live, mark, settings } from "./utils.ts"

type Limits = Omit<JobSpec.Limits, "cpuTime">

const layer = Layer.provide(NodeProcessSpawner.layer, settings())

/** The same, but it sets a limit on everything that it starts. */
const limiting = Layer.effect(
  ProcessSpawner,
  Effect.map(ProcessSpawner, ({ guarantee, spawn }) => ({
    guarantee,
    spawn: (spec, listener) => spawn({ ...spec, limits: { openFiles: 256 } }, listener)
  } satisfies ProcessSpawner["Type"]))
).pipe(Layer.provide(layer))

suite("NodeProcessSpawner, with limits", limiting, programs, {
  guarantee: "group",
  pipes: "roomy",
  limits: "set",
  joins: true,
  kill: (pid) => Processes.kill(Number(pid), "SIGKILL")
})

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
    return { pid: process.pid, end, stdout: recorder.text("stdout"), stderr: recorder.text("stderr") }
  })

/** How a job ended, and why, as its coordinator tells. */
const outcomeOf = (options: JobSpec.Options) =>
  Effect.gen(function*() {
    const coordinator = yield* JobCoordinator
    const id = yield* coordinator.start(JobSpec.make(options))
    const end = yield* coordinator.wait(id)
    return { end, stopReason: (yield* coordinator.info(id)).stopReason }
  }).pipe(Effect.provide(live()))

/** A job's soft and hard limits as the kernel tells them. */
const kernelLimits = (table: string): Record<string, string> =>
  Object.fromEntries(
    table.split("\n").slice(1).map((line) => [line.slice(4, 26).trim(), line.slice(26, 68).trim().replace(/ +/, " ")])
  )

const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(tmpdir(), "joblib-"))),
  (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
)

const isRoot = process.getuid?.() === 0

/** Whether the user of this process may set this niceness. */
const maySetNiceness = (niceness: number): boolean => {
  const probe = spawnChild("sleep", ["600"], { stdio: "ignore" })
  try {
    setPriority(probe.pid ?? 0, niceness)
    return true
  } catch {
    return false
  } finally {
    probe.kill("SIGKILL")
  }
}

describe("JobSpec.limits", () => {
  test(
    "are those of the program, in the units of the kernel, rounded up",
    Effect.gen(function*() {
      const { stdout } = yield* run(JobSpec.make({
        command: "cat",
        args: ["/proc/self/limits"],
        limits: {
          cpuTime: "2500 millis",
          memory: 1_000_000_001,
          openFiles: 32,
          fileSize: 1000,
          processes: 77,
          coreSize: 512
        }
      }))
      expect(kernelLimits(stdout)).toMatchObject({
        "cpu time": "3 4",
        "address space": "1000000512 1000000512",
        "open files": "32 32",
        "file size": "1024 1024",
        processes: "77 77",
        "core file size": "512 512"
      })
    })
  )

  test(
    "are seen by a job's shell too, whether it is the program or runs the line",
    Effect.gen(function*() {
      const limits: Limits = { openFiles: 17, memory: 2 ** 30, coreSize: 0, niceness: 7 }
      const line = "ulimit -n; ulimit -v; ulimit -c; nice"
      const expected = `17\n${2 ** 20}\n0\n7\n`
      expect((yield* run(sh(line, { limits }))).stdout).toBe(expected)
      expect((yield* run(JobSpec.make({ command: line, shell: true, limits }))).stdout).toBe(expected)
      expect((yield* run(JobSpec.make({ command: line, shell: "sh", limits }))).stdout).toBe(expected)
    })
  )

  test(
    "that are not asked for are those of the host",
    Effect.gen(function*() {
      const table = JobSpec.make({ command: "cat", args: ["/proc/self/limits"] })
      const { stdout } = yield* run(table)
      expect((yield* run({ ...table, limits: {} })).stdout).toBe(stdout)
      const { "open files": openFiles, ...others } = kernelLimits(
        (yield* run({ ...table, limits: { openFiles: 40 } })).stdout
      )
      expect(openFiles).toBe("40 40")
      expect(kernelLimits(stdout)).toMatchObject(others)
    })
  )

  describe("cpuTime", () => {
    it.live("ends a job that uses more with SIGXCPU, and the limit is the reason", () =>
      Effect.gen(function*() {
        expect(yield* outcomeOf({ command: "while :; do :; done", shell: true, limits: { cpuTime: "1 second" } }))
          .toEqual({ end: new Killed({ signal: "SIGXCPU" }), stopReason: Option.some("limit") })
      }))

    it.live("gives a job that handles SIGXCPU a second for its goodbye, then ends it with SIGKILL", () =>
      Effect.gen(function*() {
        expect(
          (yield* outcomeOf({
            command: "trap 'exit 3' XCPU; while :; do :; done",
            shell: true,
            limits: { cpuTime: "1 second" }
          })).end
        ).toEqual(new Exited({ code: 3 }))
        expect(
          (yield* outcomeOf({
            command: "trap '' XCPU; while :; do :; done",
            shell: true,
            limits: { cpuTime: "1 second" }
          })).end
        ).toEqual(new Killed({ signal: "SIGKILL" }))
      }))

    test(
      "is at least a second, and may be infinite",
      Effect.gen(function*() {
        const soft = (cpuTime: Duration.DurationInput) =>
          Effect.map(run(sh("ulimit -S -t", { limits: { cpuTime } })), ({ stdout }) => stdout)
        expect(yield* soft(0)).toBe("1\n")
        expect(yield* soft(Duration.infinity)).toBe("unlimited\n")
      })
    )
  })

  describe("fileSize", () => {
    it.scopedLive("ends a job that writes more with SIGXFSZ, and the limit is the reason", () =>
      Effect.gen(function*() {
        const file = Path.join(yield* temporaryDirectory, "file")
        expect(
          yield* outcomeOf({
            command: "dd",
            args: ["if=/dev/zero", `of=${file}`, "bs=1000", "count=10"],
            limits: { fileSize: 4096 }
          })
        ).toEqual({ end: new Killed({ signal: "SIGXFSZ" }), stopReason: Option.some("limit") })
        expect(Fs.statSync(file).size).toBe(4096)
      }))

    test(
      "does not bound the output of a job, which is no file",
      Effect.gen(function*() {
        const { end, stdout } = yield* run({ ...programs.floods, limits: { fileSize: 0 } })
        expect(end).toEqual(new Exited({ code: 0 }))
        expect(stdout.length).toBe(2 ** 20)
      })
    )
  })

  describe("memory", () => {
    test(
      "bounds the address space",
      Effect.gen(function*() {
        const copy = (memory: number) =>
          run(JobSpec.make({
            command: "dd",
            args: ["if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"],
            limits: { memory }
          }))
        expect((yield* copy(48 * 2 ** 20)).end).toEqual(new Exited({ code: 1 }))
        expect((yield* copy(96 * 2 ** 20)).end).toEqual(new Exited({ code: 0 }))
      })
    )

    test(
      "that lets no program start at all is an exit with 126 or 127, or a signal",
      Effect.gen(function*() {
        for (const memory of [1, 1_000_000]) {
          const { end } = yield* run({ ...programs.succeeds, limits: { memory } })
          expect([126, 127]).toContain(end?._tag === "Killed" ? 127 : end?.code)
        }
      })
    )
  })

  describe("openFiles", () => {
    test(
      "bounds the descriptors",
      Effect.gen(function*() {
        const openAll = `
          let last
          try { while (true) last = require("node:fs").openSync("/dev/null") } catch (error) { console.log(error.code, last) }
        `
        const { stdout } = yield* run(
          JobSpec.make({ command: process.execPath, args: ["-e", openAll], limits: { openFiles: 40 } })
        )
        expect(stdout).toBe("EMFILE 39\n")
      })
    )

    test(
      "may be as few as a program needs to start, or fewer: then it says 127 and why",
      Effect.gen(function*() {
        for (const openFiles of [4, 10, 16, 17]) {
          expect((yield* run({ ...programs.succeeds, limits: { openFiles } })).end).toEqual(new Exited({ code: 0 }))
        }
        for (const openFiles of [1, 2, 3]) {
          // A program that is linked statically has no need of a fourth descriptor.
          const { end, stderr } = yield* run({ ...programs.succeeds, limits: { openFiles } })
          expect([[0, false], [127, true]]).toContainEqual([end?._tag === "Exited" && end.code, stderr !== ""])
        }
      })
    )
  })

  describe("processes", () => {
    test(
      isRoot ? "do not bind root, who runs this test" : "bind the user",
      Effect.gen(function*() {
        const { end, stdout } = yield* run(
          sh("ulimit -p 2>/dev/null || ulimit -u; (exit 0)", { limits: { processes: 1 } })
        )
        expect(stdout).toBe("1\n")
        if (isRoot) expect(end).toEqual(new Exited({ code: 0 }))
        else expect(end).not.toEqual(new Exited({ code: 0 }))
      })
    )
  })

  describe("niceness", () => {
    for (const niceness of [-20, -1, 0, 19]) {
      const may = maySetNiceness(niceness)
      test(
        `of ${niceness}, which this user ${may ? "may" : "may not"} set, is ${may ? "set" : "refused"}`,
        Effect.gen(function*() {
          const result = yield* Effect.either(run(JobSpec.make({ command: "nice", limits: { niceness } })))
          if (may) expect(Either.getOrThrow(result).stdout).toBe(`${niceness}\n`)
          else expect(Either.getLeft(result)).toMatchObject(Option.some({ field: "limits.niceness" }))
        })
      )
    }
  })

  describe("that cannot be set", () => {
    test(
      "are an InvalidJobSpec that says why; the program never runs",
      Effect.gen(function*() {
        const { alive } = mark()
        const recorder = new Recorder()
        const error = yield* Effect.flip(
          Effect.scoped(spawn(sh("echo started; sleep 600", { limits: { openFiles: 2 ** 40, niceness: 3 } }), recorder))
        )
        expect(error).toBeInstanceOf(InvalidJobSpec)
        expect(error).toMatchObject({ field: "limits.openFiles" })
        expect(error.message).toMatch(/hard limit is \d+ files/)
        yield* recorder.end
        expect(recorder.text("stdout") + recorder.text("stderr")).toBe("")
        yield* Processes.none(alive)
      })
    )

    it.scopedLive("above the host's hard limits are named, or set if the host may: never ignored", () =>
      Effect.gen(function*() {
        const limits = [
          ["limits.cpuTime", { cpuTime: 1_002_000 }, "cpu time", "1002 1003"],
          ["limits.memory", { memory: 2 ** 42 }, "address space", `${2 ** 42} ${2 ** 42}`],
          ["limits.openFiles", { openFiles: 201 }, "open files", "201 201"],
          ["limits.fileSize", { fileSize: 1_024_001 }, "file size", "1024512 1024512"],
          ["limits.processes", { processes: 5001 }, "processes", "5001 5001"],
          ["limits.coreSize", { coreSize: 1025 }, "core file size", "1536 1536"]
        ] as const
        const host = yield* Hosts.build("limited.ts")
        const child = spawnChild("sh", [
          "-c",
          "ulimit -t 1001; ulimit -v 4194304000; ulimit -n 200; ulimit -f 2000; ulimit -p 5000 || ulimit -u 5000;"
          + "ulimit -c 2; exec \"$0\" \"$@\"",
          process.execPath,
          host,
          JSON.stringify([{ cpuTime: 1_001_000 }, ...limits.map(([, limit]) => limit)])
        ], { stdio: ["ignore", "pipe", "inherit"] })
        const says = Hosts.waitForOutput(child.stdout)
        const [output] = yield* says(/^(.*\n){7}$/)
        const [equal, ...outcomes] = output.trim().split("\n").map((line) => JSON.parse(line) as string)
        expect(kernelLimits(equal ?? "")).toMatchObject({ "cpu time": "1001 1001" })
        for (const [index, [field, , label, set]] of limits.entries()) {
          const outcome = outcomes[index] ?? ""
          if (outcome !== field) expect(kernelLimits(outcome)).toMatchObject({ [label]: set })
        }
        expect(yield* Hosts.waitForExit(child)).toBe(0)
      }))
  })

  describe("leave start errors as they are", () => {
    const limits: Limits = { niceness: 1 }
    const directory = "/proc/self"

    for (
      const [reason, spec] of [
        ["NotFound", { command: "joblib-no-such-program" }],
        ["NotFound", { command: "./joblib-no-such-program" }],
        ["NotFound", { command: "/dev/null/program" }],
        ["NotFound", { command: `/${"x".repeat(300)}` }],
        ["NotFound", { command: "true", env: { PATH: "/dev/null:/joblib/no/such/directory" } }],
        ["NotFound", { command: "true", shell: "/bin/joblib-no-such-shell" }],
        ["PermissionDenied", { command: "/dev/null" }],
        ["PermissionDenied", { command: "/" }],
        ["PermissionDenied", { command: "limits", env: { PATH: `/bin:${directory}` } }],
        ["PermissionDenied", { command: "./limits", cwd: directory }],
        ["InvalidDirectory", { command: "true", cwd: "/joblib/no/such/directory" }],
        ["InvalidDirectory", { command: "true", cwd: "/dev/null" }],
        ["InvalidDirectory", { command: "joblib-no-such-program", cwd: "/dev/null" }],
        ["ArgumentListTooLong", { command: "true", args: ["x".repeat(4 * 2 ** 20)] }],
        ["ArgumentListTooLong", { command: "true", env: { A: "x".repeat(4 * 2 ** 20) } }],
        ["ArgumentListTooLong", { command: "true", env: { PWD: "x".repeat(4 * 2 ** 20) } }]
      ] as const
    ) {
      test(
        `${reason}: ${JSON.stringify(spec).slice(0, 100)}`,
        Effect.gen(function*() {
          const plain = yield* Effect.flip(spawn(JobSpec.make(spec)))
          const limited = yield* Effect.flip(spawn(JobSpec.make({ ...spec, limits })))
          expect(limited).toBeInstanceOf(JobStartError)
          const command = "shell" in spec ? spec.shell : spec.command
          expect(limited).toMatchObject({ reason, command })
          expect(plain).toMatchObject({ reason, command })
        })
      )
    }

    test(
      "and programs that are found by a relative path, or not only by the first of many",
      Effect.gen(function*() {
        for (
          const spec of [
            { command: "./sh", cwd: "/bin" },
            { command: "bin/sh", cwd: "/" },
            { command: "sh", cwd: "/", env: { PATH: "bin" } },
            { command: "sh", cwd: "/bin", env: { PATH: "" } },
            { command: "sh", env: { PATH: `/dev/null:${directory}:/usr/bin:/bin` } },
            { command: "sh", env: { PATH: null } }
          ]
        ) {
          const job: JobSpec.Options = { ...spec, args: ["-c", "exit 7"] }
          expect((yield* run(JobSpec.make(job))).end).toEqual(new Exited({ code: 7 }))
          expect((yield* run(JobSpec.make({ ...job, limits }))).end).toEqual(new Exited({ code: 7 }))
        }
      })
    )

    it.scopedLive("save what only the kernel sees, which is an exit with 126 or 127", () =>
      Effect.gen(function*() {
        const file = Path.join(yield* temporaryDirectory, "program")
        Fs.writeFileSync(file, "#!/joblib/no/such/interpreter\n", { mode: 0o755 })
        expect(yield* Effect.flip(spawn(JobSpec.make({ command: file })))).toMatchObject({ reason: "NotFound" })
        const { end, stderr } = yield* run(JobSpec.make({ command: file, limits }))
        expect(end).toEqual(new Exited({ code: 127 }))
        expect(stderr).toContain(file)
      }).pipe(Effect.provide(layer)))

    it.scopedLive("and programs of any name: env(1) takes none for a variable or an option", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        for (const command of ["-", "a=b", "-x", " ", "é'\""]) {
          Fs.symlinkSync("/bin/sh", Path.join(directory, command))
          const spec = JobSpec.make({
            command,
            args: ["-c", "echo \"$0\"; tr '\\0' ' ' </proc/$$/cmdline"],
            env: { PATH: `${directory}:/usr/bin:/bin` }
          })
          const plain = yield* run(spec)
          expect(plain.stdout).not.toBe("")
          expect((yield* run({ ...spec, limits })).stdout).toBe(plain.stdout)
          expect(
            (yield* run({ ...spec, env: { PATH: directory }, extendEnv: false, args: ["-c", "exit 4"], limits })).end
          ).toEqual(new Exited({ code: 4 }))
        }
        expect(yield* Effect.flip(spawn(JobSpec.make({ command: "c=d", limits })))).toMatchObject({
          reason: "NotFound",
          command: "c=d"
        })
      }).pipe(Effect.provide(layer)))
  })

  describe("leave the program as it is", () => {
    /** The same program with and without limits. */
    const both = (spec: JobSpec.JobSpec) =>
      Effect.all([run({ ...spec, limits: {} }), run({ ...spec, limits: { processes: 4000 } })])

    test(
      "its environment, to the last odd name",
      Effect.gen(function*() {
        const odd = {
          "a-b": "1",
          "-x": "2",
          " ": "3",
          "BASH_FUNC_f%%": "() { :; }",
          _: "4",
          IFS: "5",
          PWD: "6",
          OPTIND: "7",
          PPID: "8",
          LINENO: "9",
          A: "'\"\\$ \n=",
          EMPTY: "",
          OLDPWD: null,
          SHLVL: null
        }
        const environment = "JSON.stringify(Object.entries(process.env).sort())"
        for (const extendEnv of [true, false]) {
          const spec = JobSpec.make({ command: process.execPath, args: ["-p", environment], env: odd, extendEnv })
          const [plain, limited] = yield* both(spec)
          expect(limited.stdout).toBe(plain.stdout)
          const { OLDPWD: _, SHLVL: __, ...present } = odd
          expect(Object.fromEntries(JSON.parse(limited.stdout))).toMatchObject(present)
        }
      })
    )

    test(
      "its descriptors, arguments, name, process id and group",
      Effect.gen(function*() {
        const [plain, limited] = yield* both(JobSpec.make({ command: "ls", args: ["/proc/self/fd"] }))
        expect(limited.stdout).toBe(plain.stdout)

        const args = ["a b", "", "$HOME", "*", "\"'\\", "\n", "--", "-x=1", "ü"]
        const [, echoed] = yield* both(
          JobSpec.make({
            command: process.execPath,
            args: ["-p", "JSON.stringify(process.argv.slice(1))", "--", ...args]
          })
        )
        expect(JSON.parse(echoed.stdout)).toEqual(args)

        const whoami = sh("tr '\\0' ' ' </proc/$$/cmdline; cut -d' ' -f1,5,6 /proc/$$/stat")
        const [first, second] = yield* both(whoami)
        expect(second.stdout).toBe(first.stdout.replaceAll(`${first.pid}`, `${second.pid}`))
        expect(second.stdout).toMatch(new RegExp(`^sh -c .*${second.pid} ${second.pid} ${second.pid}\n$`))
      })
    )
  })

  describe("with another /bin/sh, or another env(1)", () => {
    /** A variable for every shell that sets, changes, drops or protects it, and for those that look at it. */
    const environment: Record<string, string> = {
      PATH: process.env["PATH"] ?? "/usr/bin:/bin",
      ...Object.fromEntries(
        ("V9 V_3 _ BASHOPTS BASHPID BASH_ENV BASH_VERSINFO CDPATH COLUMNS DIRSTACK ENV ERRNO EUID FCEDIT FPATH GROUPS HISTFILE HOME "
          + "HOSTNAME IFS KSHEGID LANG LC_ALL LINENO LINES LOGNAME MAIL NULLCMD OLDPWD OPTARG OPTIND PGRP PIPESTATUS "
          + "POSIXLY_CORRECT PPID PS0 PS1 PS2 PS3 PS4 PWD RANDOM REPLY SECONDS SHELL SHELLOPTS SHLVL TMOUT TRY_BLOCK_ERROR "
          + "TTY UID USERNAME V0 V1 YASH_VERSION ZDOTDIR argv status")
          .split(" ").map((name, index) => [name, `${index} of '"\\$ \n="`])
      ),
      EMPTY: ""
    }

    const odd = {
      "a-b": "1",
      "-x": "2",
      " ": "3",
      "'\"\\": "4",
      "é": "5",
      "a\nb": "6",
      "BASH_FUNC_read%%": "() { echo no; }"
    }

    /** The environment that a program gets, and its arguments before the word of its host. */
    const start = (tools: Prologue.Tools, env: Record<string, string>) =>
      Effect.gen(function*() {
        const child = Prologue.spawn([], ["/usr/bin/env", "-0"], {
          cwd: undefined,
          env,
          stdio: ["ignore", "pipe", "pipe"]
        }, tools)
        const output = new Promise<string>((resolve) => {
          let text = ""
          child.stdout?.on("data", (bytes) => text += bytes)
          child.stdout?.on("close", () => resolve(text))
        })
        const shown = Fs.readFileSync(`/proc/${child.pid}/cmdline`, "utf8")
        yield* Prologue.begin([], child, child.pid ?? 0)
        const variables = (yield* Effect.promise(() => output)).split("\0").slice(0, -1)
        return { shown, env: Object.fromEntries(variables.map((variable) => variable.split(/=([^]*)/, 2))) as unknown }
      })

    for (const shell of Shells.shells) {
      it.scopedLive.skipIf(Shells.isMissing(shell))(
        `a program gets the very environment that it is to have, and nobody else sees it: ${Shells.titleOf(shell)}`,
        () =>
          Effect.gen(function*() {
            const sh = yield* Shells.link(shell, "sh")
            const env = { ...environment, ...odd }
            const program = yield* start({ shell: sh, env: "/usr/bin/env" }, env)
            expect(program.env).toEqual(env)
            expect(program.shown).not.toContain(" of '")
            expect((yield* start({ shell: sh, env: "/usr/bin/env" }, {})).env).toEqual({})
          })
      )
    }

    it.scopedLive.skipIf(Shells.isMissing("busybox"))(
      `where there is no env -S, the shell sets all that has a name for it: ${Shells.titleOf("busybox")}`,
      () =>
        Effect.gen(function*() {
          const tools = { shell: yield* Shells.link("busybox", "sh"), env: yield* Shells.link("busybox", "env") }
          const program = yield* start(tools, environment)
          expect(program.env).toEqual(environment)
          expect(program.shown).not.toContain(" of '")
          expect((yield* start(tools, {})).env).toEqual({})
        })
    )

    it.scopedLive.skipIf(Shells.isMissing("busybox"))(
      `and a variable that has none is an InvalidJobSpec, not an argument: ${Shells.titleOf("busybox")}`,
      () =>
        Effect.gen(function*() {
          for (const shell of ["busybox", "bash"] as const) {
            const tools = { shell: yield* Shells.link(shell, "sh"), env: yield* Shells.link("busybox", "env") }
            const error = yield* Effect.flip(start(tools, { PATH: "/bin", "a-b": "1" }))
            expect(error).toMatchObject({ _tag: "InvalidJobSpec", field: "env" })
          }
        })
    )
  })

  describe("until they are set", () => {
    /** A process that waits for the word of its host. */
    const waiting = (env: Record<string, string>) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const child = Prologue.spawn([], ["sh", "-c", "echo started"], {
            cwd: undefined,
            env: { PATH: "/bin:/usr/bin", ...env },
            stdio: ["ignore", "pipe", "pipe"]
          })
          let output = ""
          child.stdout?.on("data", (bytes) => output += bytes)
          return { child, pid: child.pid ?? 0, output: () => output }
        }),
        ({ pid }) => Effect.sync(() => Processes.kill(pid, "SIGKILL"))
      )

    it.scopedLive("the process shows to nobody what is in its environment", () =>
      Effect.gen(function*() {
        const { pid } = yield* waiting({ SECRET: "nobody's business" })
        expect(Fs.readFileSync(`/proc/${pid}/environ`, "utf8")).toContain("nobody's business")
        expect(Fs.readFileSync(`/proc/${pid}/cmdline`, "utf8")).not.toContain("nobody's business")
      }))

    it.scopedLive("the program does not run, not even if the host dies", () =>
      Effect.gen(function*() {
        const { child, output } = yield* waiting({})
        child.stdio[3]?.destroy()
        expect(yield* Hosts.waitForExit(child)).toBe(1)
        expect(output()).toBe("")
      }))

    test(
      "a start that is given up leaves nothing",
      Effect.gen(function*() {
        const { alive } = mark()
        for (let turns = 0; turns < 20; turns++) {
          const start = yield* Effect.fork(Effect.scoped(Effect.zipRight(
            spawn(sh("sleep 600", { limits: { openFiles: 30 } })),
            Effect.never
          )))
          yield* Effect.repeatN(Effect.yieldNow(), turns)
          yield* Fiber.interrupt(start)
        }
        yield* Processes.none(alive)
      })
    )
  })

  it.scopedLive("one start after another loses no descriptor, whether it succeeds or fails", () =>
    Effect.gen(function*() {
      const descriptors = () => Fs.readdirSync("/proc/self/fd").length
      const attempts = [{ openFiles: 64 }, { openFiles: 2 ** 40 }, { niceness: 5, memory: 1 }]
      const attempt = (limits: Limits) => Effect.either(Effect.scoped(run({ ...programs.succeeds, limits })))
      yield* Effect.forEach(attempts, attempt)
      const before = descriptors()
      for (let round = 0; round < 20; round++) yield* Effect.forEach(attempts, attempt)
      yield* Processes.eventually(descriptors, (count) => count <= before)
    }).pipe(Effect.provide(layer)))
})
