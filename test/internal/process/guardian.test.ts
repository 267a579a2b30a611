import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import * as Guardian from "../../../src/internal/process/guardian.ts"
import { guardianScript } from "../../../src/internal/process/guardianScript.ts"
import * as Hosts from "../../fixtures/hosts.ts"
import * as Processes from "../../fixtures/processes.ts"
import * as Shells from "../../fixtures/shells.ts"
import * as WallTime from "../../fixtures/wallTime.ts"

interface ScriptOptions {
  readonly shell?: string
  /** Where it finds its programs; default: the path of this process. */
  readonly path?: string
  /** The user that it runs as, and how many processes that user may have. */
  readonly crowded?: { readonly uid: number; readonly processes: number }
}

/** The script by itself: the test is its host. */
const startScriptWith = ({ crowded, path, shell = "/bin/sh" }: ScriptOptions) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const mark = `JOBLIB_TEST_${randomUUID().replaceAll("-", "_")}`
      const [file = "", ...args] = [
        ...(crowded === undefined ? [] : ["prlimit", `--nproc=${crowded.processes}`]),
        shell,
        "-c",
        guardianScript,
        "joblib-guardian",
        `${mark}=1`
      ]
      const script = spawn(file, args, {
        detached: true,
        env: { PATH: path ?? process.env["PATH"] },
        stdio: ["pipe", "pipe", "ignore"],
        ...(crowded === undefined ? {} : { uid: crowded.uid, gid: crowded.uid })
      })
      return {
        pid: script.pid ?? 0,
        mark,
        input: script.stdin,
        says: Hosts.waitForOutput(script.stdout),
        exited: Hosts.waitForExit(script)
      }
    }),
    ({ pid, mark }) =>
      Effect.sync(() => {
        Processes.kill(-pid, "SIGKILL")
        Processes.carrying(`${mark}=1`).forEach((pid) => Processes.kill(pid, "SIGKILL"))
      })
  )

const startScript = startScriptWith({})

/** A shell script that leads a group, once it has said "up". */
const startJob = (script: string, env: Record<string, string> = {}, uid?: number) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const job = spawn("sh", ["-c", script], {
        detached: true,
        env: { PATH: process.env["PATH"], ...env },
        stdio: ["ignore", "pipe", "ignore"],
        ...(uid === undefined ? {} : { uid })
      })
      const pid = job.pid ?? 0
      return { pid, says: Hosts.waitForOutput(job.stdout), groupGone: Processes.none(() => Processes.inGroup(pid)) }
    }),
    ({ pid }) => Effect.sync(() => Processes.kill(-pid, "SIGKILL"))
  ).pipe(Effect.tap((job) => job.says(/up/)))

/** A directory of programs that come before the others in the path. */
const programs = (scripts: Record<string, string>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const directory = Fs.mkdtempSync(Path.join(tmpdir(), "joblib-"))
      for (const [name, script] of Object.entries(scripts)) {
        Fs.writeFileSync(Path.join(directory, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
      }
      return `${directory}:${process.env["PATH"]}`
    }),
    (path) => Effect.sync(() => Fs.rmSync(path.split(":", 1)[0] ?? "", { recursive: true }))
  )

const stubborn = "trap '' TERM; sleep 1000 & echo up; wait"

const isRoot = process.getuid?.() === 0

describe("guardianScript", () => {
  it.scopedLive("sends SIGTERM and SIGCONT to every registered group: even a stopped one can say goodbye", () =>
    Effect.gen(function*() {
      const guardian = yield* startScript
      const job = yield* startJob("trap 'echo goodbye; exit' TERM; echo up; while :; do sleep 0.01; done")
      process.kill(-job.pid, "SIGSTOP")
      guardian.input.end(`0 ${job.pid}\n`)
      yield* job.says(/goodbye/)
      yield* guardian.exited
    }))

  it.scopedLive("kills groups that ignore SIGTERM, two seconds after the end of its host at the latest", () =>
    Effect.gen(function*() {
      const guardian = yield* startScript
      const jobs = yield* Effect.replicateEffect(startJob("trap '' TERM; sleep 1000 & echo up; wait"), 5)
      const begin = performance.now()
      guardian.input.end(jobs.map((job, slot) => `${slot} ${job.pid}\n`).join(""))
      for (const job of jobs) yield* job.groupGone
      WallTime.assertWithin(performance.now() - begin, 2000)
    }))

  it.scopedLive("touches no group but the registered ones, as they are when the host ends", () =>
    Effect.gen(function*() {
      const guardian = yield* startScript
      const [never, once, cutShort, replaced, last] = yield* Effect.all([
        startJob("echo up; sleep 1000"),
        startJob("echo up; sleep 1000"),
        startJob("echo up; sleep 1000"),
        startJob("echo up; sleep 1000"),
        startJob("echo up; sleep 1000")
      ])
      guardian.input.write(`0 ${once.pid}\n1 ${replaced.pid}\n0\n1\n1 ${last.pid}\n`)
      guardian.input.end(`2 ${cutShort.pid}`)
      yield* last.groupGone
      yield* guardian.exited
      for (const job of [never, once, cutShort, replaced]) assert.isTrue(Processes.isAlive(job.pid))
    }))

  it.scopedLive("asks a job to end that carries its mark, though it was never registered", () =>
    Effect.gen(function*() {
      const guardian = yield* startScript
      const job = yield* startJob("trap 'echo goodbye; exit' TERM; echo up; while :; do sleep 0.01; done", {
        [guardian.mark]: "1"
      })
      guardian.input.end()
      yield* job.says(/goodbye/)
      yield* guardian.exited
    }))

  it.scopedLive("ends what carries its mark, wherever it has gone, and what is in one group with it", () =>
    Effect.gen(function*() {
      const guardian = yield* startScript
      const marked = { [guardian.mark]: "1" }
      const unregistered = yield* startJob("trap '' TERM; env -i sleep 1000 & echo up; wait", marked)
      const escaped = yield* startJob(
        `exec "${process.execPath}" -e '
        const options = { detached: true, stdio: "ignore" }
        require("node:child_process").spawn("sleep", ["1000"], options).unref()
        console.log("up")'`,
        marked
      )
      const stranger = yield* startJob("echo up; sleep 1000", { [`${guardian.mark}0`]: "1", MARK: guardian.mark })
      yield* escaped.groupGone
      assert.lengthOf(Processes.carrying(`${guardian.mark}=1`), 3)
      guardian.input.end()
      yield* unregistered.groupGone
      yield* guardian.exited
      assert.isEmpty(Processes.carrying(`${guardian.mark}=1`))
      assert.isTrue(Processes.isAlive(stranger.pid))
    }))

  it.scopedLive("ends a family that forks in a storm, each child in a session of its own", () =>
    Effect.gen(function*() {
      const guardian = yield* startScript
      yield* startJob(
        `exec "${process.execPath}" -e '
          const { spawn } = require("node:child_process")
          const again = () => {
            spawn("sleep", ["1000"], { detached: true, stdio: "ignore" }).unref()
            setTimeout(again, 2)
          }
          again()
          console.log("up")'`,
        { [guardian.mark]: "1" }
      )
      guardian.input.end()
      yield* guardian.exited
      assert.isEmpty(Processes.carrying(`${guardian.mark}=1`))
    }))

  it.scopedLive("kills what it knows though its sweep hangs on a process that is stuck in the kernel", () =>
    Effect.gen(function*() {
      const guardian = yield* startScriptWith({ path: yield* programs({ grep: "exec sleep 1000" }) })
      const jobs = yield* Effect.replicateEffect(startJob(stubborn), 3)
      const begin = performance.now()
      guardian.input.end(jobs.map((job, slot) => `${slot} ${job.pid}\n`).join(""))
      for (const job of jobs) yield* job.groupGone
      WallTime.assertWithin(performance.now() - begin, 10_000)
    }))

  it.scopedLive("finds all others that carry its mark though its sweep hangs on one of them", () =>
    Effect.gen(function*() {
      const path = yield* programs({
        grep:
          "case \" $* \" in *\" /proc/$(cat \"${0%grep}stuck\")/environ \"*) exec sleep 1000;; esac; exec /bin/grep \"$@\""
      })
      const guardian = yield* startScriptWith({ path })
      const marked = { [guardian.mark]: "1" }
      const [before, stuck, after] = yield* Effect.all([
        startJob(stubborn, marked),
        startJob("trap '' TERM; echo up; while :; do sleep 0.1; done", marked),
        startJob(stubborn, marked)
      ])
      Fs.writeFileSync(Path.join(path.split(":", 1)[0] ?? "", "stuck"), `${stuck.pid}`)
      guardian.input.end(`0 ${stuck.pid}\n`)
      yield* stuck.groupGone
      yield* before.groupGone
      yield* after.groupGone
    }))

  it.scopedLive("finds those before and after one on which its sweep hangs for as long as it lives", () =>
    Effect.gen(function*() {
      // As GNU grep, it tells what it has found when it ends, unless it is told to tell it at once.
      const path = yield* programs({
        grep: `stuck=/proc/$(cat "\${0%grep}stuck")/environ told= found= at_once=
          case " $* " in *" /proc/"*) ;; *) exec /bin/grep "$@" ;; esac
          for word; do
            case $word in
              --line-buffered) at_once=yes ;;
              JOBLIB_*) mark=$word ;;
              "$stuck") exec sleep 1000 ;;
              /proc/*) /bin/grep -qs "$mark" "$word" && if [ "$at_once" ]; then echo "$word"; else found="$found $word"; fi ;;
            esac
          done
          for word in $found; do echo "$word"; done`
      })
      const guardian = yield* startScriptWith({ path })
      const marked = { [guardian.mark]: "1" }
      const before = yield* startJob(stubborn, marked)
      const stuck = yield* startJob("echo up; exec sleep 1000")
      const after = yield* startJob(stubborn, marked)
      Fs.writeFileSync(Path.join(path.split(":", 1)[0] ?? "", "stuck"), `${stuck.pid}`)
      guardian.input.end()
      yield* Effect.timeout(Effect.zip(before.groupGone, after.groupGone), "200 seconds")
    }))

  it.scopedLive("gives nobody a list of all processes, which may be longer than arguments can be", () =>
    Effect.gen(function*() {
      const path = yield* programs({ grep: "[ $# -le 104 ] && exec /bin/grep \"$@\"" })
      const guardian = yield* startScriptWith({ path })
      const crowd = yield* Effect.replicateEffect(startJob("echo up; exec sleep 1000"), 100)
      const marked = yield* startJob(stubborn, { [guardian.mark]: "1" })
      guardian.input.end()
      yield* marked.groupGone
      for (const { pid } of crowd) assert.isTrue(Processes.isAlive(pid))
    }))

  it.scopedLive("kills fifty groups that ignore SIGTERM before its sweep has seen them all", () =>
    Effect.gen(function*() {
      const path = yield* programs({ grep: "sleep 3; exec /bin/grep \"$@\"" })
      const guardian = yield* startScriptWith({ path })
      const jobs = yield* Effect.replicateEffect(startJob(stubborn, { [guardian.mark]: "1" }), 50)
      guardian.input.end(jobs.map((job, slot) => `${slot} ${job.pid}\n`).join(""))
      const first = yield* Effect.race(
        Effect.as(Effect.forEach(jobs, (job) => job.groupGone), "killed"),
        Effect.as(guardian.exited, "swept")
      )
      assert.strictEqual(first, "killed")
    }))

  it.scopedLive.skipIf(!isRoot)(
    "goes on without what a limit on processes denies it, and gives the grace period all the same",
    () =>
      Effect.gen(function*() {
        const uid = 61_234
        const guardian = yield* startScriptWith({ crowded: { uid, processes: 1 } })
        yield* guardian.says(/ready/)
        const polite = yield* startJob("trap 'sleep 0.2; echo goodbye; exit' TERM; echo up; sleep 1000 & wait", {}, uid)
        const rude = yield* startJob(stubborn, {}, uid)
        guardian.input.end(`0 ${polite.pid}\n1 ${rude.pid}\n`)
        yield* polite.says(/goodbye/)
        yield* rude.groupGone
        yield* guardian.exited
      })
  )

  for (const shell of Shells.shells) {
    it.scopedLive.skipIf(Shells.isMissing(shell))(
      `ends jobs, whether they know SIGTERM or not, or says at once that it cannot: ${Shells.titleOf(shell)}`,
      () =>
        Effect.gen(function*() {
          const guardian = yield* startScriptWith({ shell: yield* Shells.link(shell, "sh") })
          const answer = yield* Effect.race(
            Effect.as(guardian.says(/^ready\n$/), "ready" as const),
            guardian.exited
          )
          assert.strictEqual(answer, shell === "posh" ? 1 : "ready")
          if (answer !== "ready") return
          const polite = yield* startJob("trap 'echo goodbye; exit' TERM; echo up; while :; do sleep 0.01; done")
          const rude = yield* startJob(stubborn)
          const marked = yield* startJob(stubborn, { [guardian.mark]: "1" })
          guardian.input.end(`0 ${polite.pid}\n1 ${rude.pid}\n`)
          yield* polite.says(/goodbye/)
          yield* rude.groupGone
          yield* marked.groupGone
          assert.strictEqual(yield* guardian.exited, 0)
        })
    )
  }

  it.scopedLive.skipIf(Shells.isMissing("bash"))(
    "sends no signal at all where kill is a program, which may take a group for everybody",
    () =>
      Effect.gen(function*() {
        const path = yield* programs({
          kill: ": >\"$0.called\"",
          sh: `export script="$2"; exec bash -c 'enable -n kill; eval "$script"' "$3" "$4"`
        })
        const [directory = ""] = path.split(":", 1)
        const guardian = yield* startScriptWith({ path, shell: Path.join(directory, "sh") })
        assert.strictEqual(yield* guardian.exited, 1)
        assert.isFalse(Fs.existsSync(Path.join(directory, "kill.called")))
      })
  )

  it.scopedLive("minds no signal that can be ignored", () =>
    Effect.gen(function*() {
      const guardian = yield* startScript
      const job = yield* startJob("echo up; sleep 1000")
      guardian.input.write(`0 ${job.pid}\n`)
      yield* Processes.eventually(() => Processes.ignores(guardian.pid, 15), (ignored) => ignored)
      for (const signal of ["SIGHUP", "SIGINT", "SIGQUIT", "SIGPIPE", "SIGTERM"] as const) {
        process.kill(guardian.pid, signal)
      }
      guardian.input.end()
      yield* job.groupGone
      yield* guardian.exited
    }))
})

describe("Guardian", () => {
  /** The helper's process id. */
  const helperOf = (guardian: Guardian.Guardian) =>
    Effect.map(
      Processes.eventually(() => Processes.carrying(`${guardian.mark}=1`), (found) => found.length === 1),
      ([pid]) => pid ?? 0
    )

  const warnings = () => {
    const messages: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      messages.push(`${logLevel.label} ${message}`)
    })
    return { messages, layer: Logger.replace(Logger.defaultLogger, logger) }
  }

  it.scopedLive("has a mark of its own, fit for a variable's name", () =>
    Effect.gen(function*() {
      const [one, other] = yield* Effect.all([Guardian.make, Guardian.make])
      assert.match(one.mark, /^JOBLIB_[0-9a-f_]{36}$/)
      assert.notStrictEqual(one.mark, other.mark)
    }))

  it.live("closing its scope ends it", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const guardian = yield* Scope.extend(Guardian.make, scope)
      const helper = yield* helperOf(guardian)
      assert.isTrue(guardian.isAlive)
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(Processes.isAlive(helper))
      assert.isFalse(guardian.isAlive)
    }))

  it.live("closing its scope ends it when its fiber has been interrupted, too", () =>
    Effect.gen(function*() {
      const made = yield* Deferred.make<Guardian.Guardian>()
      const fiber = yield* Effect.fork(Effect.scoped(
        Guardian.make.pipe(Effect.tap((guardian) => Deferred.succeed(made, guardian)), Effect.zipRight(Effect.never))
      ))
      const helper = yield* Effect.flatMap(Deferred.await(made), helperOf)
      yield* Fiber.interrupt(fiber)
      assert.isFalse(Processes.isAlive(helper))
    }))

  it.live("starts its helper once more, then warns and says so", () => {
    const { layer, messages } = warnings()
    return Effect.gen(function*() {
      const guardian = yield* Guardian.make
      const first = yield* helperOf(guardian)
      process.kill(first, "SIGKILL")
      const second = yield* Effect.repeat(helperOf(guardian), { until: (pid) => pid !== first })
      yield* Processes.eventually(() => guardian.isAlive, (isAlive) => isAlive)
      assert.isEmpty(messages)
      process.kill(second, "SIGKILL")
      yield* Processes.eventually(() => messages.length, (count) => count > 0)
      assert.isFalse(guardian.isAlive)
      assert.match(messages.join(), /^WARN The guardian is lost/)
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.live("takes registrations at any time, from a helper that does not read as from a dead one", () =>
    Effect.gen(function*() {
      const guardian = yield* Guardian.make
      for (const signal of ["SIGSTOP", "SIGKILL", "SIGKILL"] as const) {
        process.kill(yield* helperOf(guardian), signal)
        for (let i = 0; i < 20_000; i++) guardian.register(2 ** 30 + i)
        for (let i = 0; i < 20_000; i++) guardian.unregister(2 ** 30 + i)
      }
      yield* Processes.eventually(() => guardian.isAlive, (alive) => !alive)
      guardian.register(2 ** 30)
    }).pipe(Effect.scoped, Effect.provide(warnings().layer)))

  for (const shell of ["a shell that cannot signal a group", "no shell"] as const) {
    it.live(`is not alive, and warns, where there is ${shell}`, () => {
      const { layer, messages } = warnings()
      return Effect.gen(function*() {
        const path = yield* programs({ posh: "exit 1" })
        const file = shell === "no shell" ? "/joblib/no/such/shell" : `${path.split(":", 1)[0]}/posh`
        const guardian = yield* Guardian.makeFor(undefined, file)
        assert.isFalse(guardian.isAlive)
        yield* Processes.eventually(() => messages.length, (count) => count > 0)
        assert.match(messages.join(), /^WARN The guardian is lost/)
      }).pipe(Effect.scoped, Effect.provide(layer))
    })
  }

  it.live("warns when the helper cannot be started", () => {
    const { layer, messages } = warnings()
    const path = process.env["PATH"]
    return Effect.gen(function*() {
      yield* Effect.acquireRelease(
        Effect.sync(() => process.env["PATH"] = "/too/long:".repeat(100_000)),
        () => Effect.sync(() => process.env["PATH"] = path)
      )
      const guardian = yield* Guardian.make
      assert.isFalse(guardian.isAlive)
      yield* Processes.eventually(() => messages.length, (count) => count > 0)
      guardian.register(2 ** 30)
    }).pipe(Effect.scoped, Effect.provide(layer))
  })
})
