import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { spawn as spawnChild } from "node:child_process"
import { randomUUID } from "node:crypto"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { CgroupLimits, JobCoordinator, JobSpec } from "../src/index.ts"
import * as Cgroups from "../src/internal/process/cgroups.ts"
import { Exited, Killed } from "../src/JobStatus.ts"
import { ProcessSpawner } from "../src/ProcessSpawner.ts"
import * as Hosts from "./fixtures/hosts.ts"
import { lacking } from "./fixtures/lacking.ts"
import * as Processes from "./fixtures/processes.ts"
import { programs, sh } from "./fixtures/programs.ts"
import { Recorder } from "./fixtures/recorder.ts"
import { suite } from "./ProcessSpawner.suite.ts"
import { mark, settings } from "./utils.ts"

const limited = (options?: CgroupLimits.Options) => Layer.provide(CgroupLimits.layer(options), settings())

const build = (options?: CgroupLimits.Options) => Effect.scoped(Layer.build(limited(options)))

/** The cgroup of this process, or why none can be made in it. */
const delegated = await Effect.runPromise(
  Cgroups.make(undefined, []).pipe(Effect.map(({ path }) => Path.dirname(path)), Effect.scoped, Effect.either)
)

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
    return { end, stdout: recorder.text("stdout") }
  })

/** Leaves the group and the environment of its job, says who it is, and runs until a signal ends it. */
const escape = "env -i setsid sh -c 'echo $$; sleep 600; :'"

const withoutCgroups = () => {
  describe("CgroupLimits", () => {
    it.live("cannot be built where there is nothing that is not a cgroup of version 2", () =>
      Effect.gen(function*() {
        for (const directory of ["/joblib/no/such/directory", tmpdir(), "/dev/null", "", "\0"]) {
          expect(yield* Effect.flip(build({ directory }))).toMatchObject({ _tag: "CgroupError", reason: "NotFound" })
        }
      }))
  })
}

const withCgroups = (directory: string) => {
  const available = Fs.readFileSync(`${directory}/cgroup.controllers`, "utf8").trim().split(" ")

  const test = (promise: string, body: Effect.Effect<void, unknown, ProcessSpawner | Scope.Scope>) =>
    it.scopedLive(promise, () => Effect.provide(body, limited()))

  /** A cgroup that is ours alone. */
  const ownDirectory = Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(`${directory}/joblib-test-`)),
    (path) => Effect.sync(() => Fs.rmdirSync(path))
  )

  const directories = (path: string): ReadonlyArray<string> =>
    Fs.readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory()).map(({ name }) => name)

  suite("CgroupLimits", limited(), programs, {
    guarantee: "tree",
    pipes: "roomy",
    limits: "set",
    joins: true,
    kill: (pid) => Processes.kill(Number(pid), "SIGKILL")
  })

  describe("CgroupLimits, with real cgroups", () => {
    test(
      "gives each job a cgroup of its own, and sets the job's own limits too",
      Effect.gen(function*() {
        const own = sh("sed -n 's/^0:://p' /proc/self/cgroup; ulimit -n", { limits: { openFiles: 33 } })
        const [first, second] = yield* Effect.all([run(own), run(own)])
        for (const { stdout } of [first, second]) expect(stdout).toMatch(/\/joblib-[-0-9a-f]{36}\/\d+\n33\n$/)
        expect(first.stdout).not.toBe(second.stdout)
      })
    )

    it.scopedLive("guarantees no more than the leader without a guardian", () =>
      Effect.gen(function*() {
        expect((yield* ProcessSpawner).guarantee).toBe("leader")
      }).pipe(Effect.provide(Layer.provide(CgroupLimits.layer(), settings({ guardian: "off" })))))

    test(
      "signals each member once, whether it has left the group or not",
      Effect.gen(function*() {
        const member = "trap 'echo got' USR1; echo ready; while :; do sleep 0.01; done"
        const { process, recorder } = yield* spawn(sh(`setsid sh -c "$0" & eval "$0"`.replaceAll("$0", member)))
        yield* recorder.until(() => recorder.text("stdout") === "ready\nready\n")
        yield* process.signal("SIGUSR1")
        yield* recorder.until(() => recorder.text("stdout") === "ready\nready\ngot\ngot\n")
        yield* process.signal("SIGTERM")
        yield* process.awaitGone
        yield* recorder.outputEnd
        expect(recorder.text("stdout")).toBe("ready\nready\ngot\ngot\n")
      })
    )

    test(
      "kills what leaves the group as fast as it can",
      Effect.gen(function*() {
        const { alive } = mark()
        for (let round = 0; round < 5; round++) {
          const { process, recorder } = yield* spawn(sh("while echo; do setsid sh -c 'setsid sleep 600 & exit' & done"))
          yield* recorder.until(() => recorder.text("stdout").length > 5)
          yield* process.signal("SIGKILL")
          expect(yield* recorder.exit).toEqual(new Killed({ signal: "SIGKILL" }))
          yield* process.awaitGone
          expect(alive()).toEqual([])
        }
      })
    )

    it.live("ends a job whose leader has left with all that it left behind: no output is cut", () =>
      Effect.gen(function*() {
        const coordinator = yield* JobCoordinator.JobCoordinator
        const id = yield* coordinator.start(JobSpec.make({ command: `${escape} & exit 3`, shell: true }))
        expect(yield* coordinator.wait(id)).toEqual(new Exited({ code: 3 }))
        expect((yield* coordinator.info(id)).output.cut).toBe(false)
      }).pipe(Effect.provide(JobCoordinator.layer.pipe(Layer.provide(limited()), Layer.provide(settings())))))

    it.live("stops what ignores SIGTERM outside the group, when the grace period is over", () =>
      Effect.gen(function*() {
        const { alive } = mark()
        const coordinator = yield* JobCoordinator.JobCoordinator
        const id = yield* coordinator.start(JobSpec.make({
          command: "trap '' TERM; setsid sleep 600 & exit 3",
          shell: true,
          stop: { gracePeriod: "200 millis" }
        }))
        const begin = performance.now()
        yield* coordinator.wait(id)
        expect(performance.now() - begin).toBeGreaterThan(190)
        expect(alive()).toEqual([])
      }).pipe(Effect.provide(JobCoordinator.layer.pipe(Layer.provide(limited()), Layer.provide(settings())))))

    it.scopedLive("leaves no cgroup behind: not by jobs that end, nor by any that do not start", () =>
      Effect.gen(function*() {
        const directory = yield* ownDirectory
        yield* Effect.gen(function*() {
          const [own = ""] = directories(directory)
          yield* run(programs.succeeds)
          for (const spec of Object.values(programs.failures)) yield* Effect.flip(spawn(spec))
          yield* Effect.flip(spawn({ ...programs.succeeds, limits: { openFiles: 2 ** 40 } })).pipe(Effect.scoped)
          yield* Effect.flip(spawn(JobSpec.make({ command: "a=b" })))
          yield* Effect.scoped(spawn(programs.ignoresTerm))
          yield* Processes.eventually(() => directories(`${directory}/${own}`), (left) => left.length === 0)
        }).pipe(Effect.provide(limited({ directory })))
        expect(directories(directory)).toEqual([])
      }))

    it.scopedLive("leaves none behind when it closes, with what a job has put into cgroups of its own", () =>
      Effect.gen(function*() {
        const { alive } = mark()
        const directory = yield* ownDirectory
        const scope = yield* Scope.make()
        const context = yield* Layer.build(limited({ directory })).pipe(Scope.extend(scope))
        const { recorder } = yield* spawn(sh(`
          cd ${directory}/joblib-*/$(basename $(sed -n 's/^0:://p' /proc/self/cgroup))
          mkdir a a/b
          setsid sh -c 'echo 0 >a/b/cgroup.procs; echo ready; exec sleep 600' &
          wait
        `)).pipe(Effect.provide(context), Scope.extend(scope))
        yield* recorder.line("stdout")
        yield* Scope.close(scope, Exit.void)
        expect(directories(directory)).toEqual([])
        yield* Processes.none(alive)
      }))

    if (process.getuid?.() === 0) {
      it.scopedLive("needs no more of root than the delegation", () =>
        Effect.gen(function*() {
          const directory = yield* ownDirectory
          const nobody = 65534
          for (const file of ["", "/cgroup.procs", "/cgroup.subtree_control"]) {
            Fs.chownSync(directory + file, nobody, nobody)
          }
          const program = yield* Hosts.build("cgroupHost.ts")
          // It comes through standard input, for the directory that it is in may let nobody else in.
          const node = [process.execPath, "--input-type=module", "-", `id -u; ${escape} & exit`, "1"]
          const host = spawnChild("sh", ["-c", "read go && exec \"$@\"", "sh", ...node], {
            cwd: "/",
            uid: nobody,
            gid: nobody,
            stdio: ["pipe", "pipe", "inherit"]
          })
          Fs.writeFileSync(`${directory}/cgroup.procs`, `${host.pid}`)
          host.stdin.end(`go\n${Fs.readFileSync(program, "utf8")}`)
          const [, uid, pid] = yield* Hosts.waitForOutput(host.stdout)(/^(\d+)\n(\d+)\n/)
          expect(Number(uid)).toBe(nobody)
          host.kill("SIGKILL")
          yield* Processes.eventually(() => Processes.isAlive(Number(pid)), (isAlive) => !isAlive)
          yield* Processes.eventually(() => directories(directory), (left) => left.length === 0)
          yield* Processes.eventually(
            () => Fs.readFileSync(`${directory}/cgroup.events`, "utf8"),
            (events) => events.includes("populated 0")
          )
        }))
    } else {
      lacking("needs no more of root than the delegation", "only root can hand a cgroup to another user")
    }

    for (const jobs of [1, 40]) {
      it.scopedLive(`ends the tree of each of ${jobs} jobs when the host dies, and removes its cgroups`, () =>
        Effect.gen(function*() {
          const program = yield* Hosts.build("cgroupHost.ts")
          const token = `joblib-test-${randomUUID()}`
          const script = `sed -n 's/^0:://p' /proc/self/cgroup; trap '' TERM; ${escape} ${token}`
          const host = spawnChild(process.execPath, [program, script, `${jobs}`], {
            stdio: ["ignore", "pipe", "inherit"]
          })
          // Of many, some are by then still on their way into their cgroups.
          const says = Hosts.waitForOutput(host.stdout)
          const [, own = ""] = yield* says(/^.*(\/joblib-[-0-9a-f]{36})\/\d+\n(.*\n)*\d+\n/)
          expect(Fs.existsSync(directory + own)).toBe(true)
          expect(Processes.carrying(token).length).toBeGreaterThan(0)
          host.kill("SIGKILL")
          yield* Processes.none(() => Processes.carrying(token))
          yield* Processes.eventually(() => Fs.existsSync(directory + own), (exists) => !exists)
          expect(Processes.carrying(token)).toEqual([])
        }))
    }

    it.scopedLive("says so where no cgroup can be made for a job, and makes the next", () =>
      Effect.gen(function*() {
        const directory = yield* ownDirectory
        Fs.writeFileSync(`${directory}/cgroup.max.descendants`, "2")
        yield* Effect.gen(function*() {
          const { process } = yield* spawn(programs.runs)
          expect(yield* Effect.flip(spawn(programs.succeeds))).toMatchObject({
            _tag: "JobStartError",
            reason: "ResourceExhausted",
            command: "true"
          })
          yield* process.signal("SIGKILL")
          yield* process.awaitGone
          expect((yield* run(programs.succeeds)).end).toEqual(new Exited({ code: 0 }))
          for (const own of directories(directory)) Fs.rmdirSync(`${directory}/${own}`)
          expect(yield* Effect.flip(spawn(programs.succeeds))).toMatchObject({ reason: "Unknown" })
        }).pipe(Effect.provide(limited({ directory })))
      }))

    describe("cannot be built", () => {
      it.scopedLive("where no cgroup can be made", () =>
        Effect.gen(function*() {
          const directory = yield* ownDirectory
          Fs.writeFileSync(`${directory}/cgroup.max.depth`, "0")
          expect(yield* Effect.flip(build({ directory }))).toMatchObject({ reason: "NotDelegated", directory })
        }))

      it.scopedLive("where no process can be moved, and leaves nothing", () =>
        Effect.gen(function*() {
          const directory = yield* ownDirectory
          Fs.mkdirSync(`${directory}/threads`)
          Fs.writeFileSync(`${directory}/threads/cgroup.type`, "threaded")
          expect(yield* Effect.flip(build({ directory: `${directory}/threads` }))).toMatchObject({
            reason: "NotDelegated"
          })
          expect(directories(`${directory}/threads`)).toEqual([])
          Fs.rmdirSync(`${directory}/threads`)
        }))
    })

    // A controller that no option needs shows on more machines how one is enabled and set.
    if (available.includes("hugetlb")) {
      const settings = (value: string) => [{ controller: "hugetlb", file: "hugetlb.2MB.max", value }]

      /** Undoes what the layer does once and for all where a cgroup is delegated to it. */
      const restored = Effect.acquireRelease(
        Effect.sync(() => Fs.readFileSync(`${directory}/cgroup.subtree_control`, "utf8").includes("hugetlb")),
        (wasEnabled) =>
          Effect.sync(() => wasEnabled || Fs.writeFileSync(`${directory}/cgroup.subtree_control`, "-hugetlb"))
      )

      it.scopedLive("enables a controller, and sets its limit for each job", () =>
        Effect.gen(function*() {
          yield* restored
          const { create } = yield* Cgroups.make(undefined, settings("4194304"))
          for (const cgroup of [create(), create()]) {
            expect(Fs.readFileSync(`${cgroup.path}/hugetlb.2MB.max`, "utf8")).toBe("4194304\n")
          }
        }))

      it.scopedLive("tells of a limit that the kernel refuses, and of processes that are in the way", () =>
        Effect.gen(function*() {
          yield* restored
          expect(yield* Effect.flip(Cgroups.make(undefined, settings("nonsense")))).toMatchObject({
            reason: "InvalidLimit"
          })
          const own = yield* ownDirectory
          Fs.writeFileSync(`${directory}/cgroup.subtree_control`, "+hugetlb")
          const { process, recorder } = yield* spawn(
            sh(`echo 0 >${own}/cgroup.procs; echo ready; exec sleep 600`)
          )
          yield* recorder.line("stdout")
          expect(yield* Effect.flip(Cgroups.make(own, settings("0")))).toMatchObject({ reason: "NotDelegated" })
          yield* process.signal("SIGKILL")
          yield* process.awaitGone
        }).pipe(Effect.provide(limited())))
    }

    for (
      const [controller, file, options, expected] of [
        ["memory", "memory.max", { memory: 2 ** 27 }, `${2 ** 27}\n`],
        ["cpu", "cpu.max", { cpuShare: 0.5 }, "50000 100000\n"],
        ["pids", "pids.max", { processes: 20 }, "20\n"]
      ] as const
    ) {
      if (available.includes(controller)) {
        it.scopedLive(`sets ${file} for each job`, () =>
          Effect.gen(function*() {
            const { stdout } = yield* run(
              sh(`cat ${directory}/joblib-*/$(basename $(sed -n 's/^0:://p' /proc/self/cgroup))/${file}`)
            )
            expect(stdout).toBe(expected)
          }).pipe(Effect.provide(limited(options))))
      } else {
        it.live(`tells that ${Object.keys(options)[0]} cannot be limited here, where there is no ${controller} controller`, () =>
          Effect.gen(function*() {
            const error = yield* Effect.flip(build(options))
            expect(error).toMatchObject({ _tag: "CgroupError", reason: "ControllerUnavailable", directory })
            expect(error.message).toContain(controller)
          }))
      }
    }
  })
}

withoutCgroups()
if (delegated._tag === "Right") withCgroups(delegated.right)
else {
  describe("CgroupLimits, with real cgroups", () => {
    lacking("all of it", delegated.left.message)

    it.live(`cannot be tested here: ${delegated.left.message}`, () =>
      Effect.gen(function*() {
        expect(yield* Effect.flip(build())).toMatchObject({ _tag: "CgroupError", reason: delegated.left.reason })
      }))
  })
}
