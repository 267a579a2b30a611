/**
 * A helper process that outlives its host by a second, to end the process groups that a dying host leaves behind.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { Socket } from "node:net"
import { guardianScript } from "./guardianScript.ts"

export interface Guardian {
  /** A variable that belongs into the environment of every job, its value 1: it finds those never registered. */
  readonly mark: string
  /** Belongs right after the spawn, in the same turn. Never throws, never waits. */
  readonly register: (pgid: number) => void
  /** Belongs right after the end of the group, since its id may be taken anew. Never throws, never waits. */
  readonly unregister: (pgid: number) => void
  /** Whether the helper runs now, and its shell can do what it must. */
  readonly isAlive: boolean
}

/** A helper process, and whether it has said that it is able. */
interface Helper {
  readonly child: ChildProcess
  isReady: boolean
}

/**
 * A guardian for as long as the scope is open. A helper that cannot start or dies is started once more. If there is a
 * cgroup, all that is in it ends with the host, and so does the cgroup. It waits for the helper to be ready, a second at
 * most.
 */
export const makeFor = (
  cgroup: string | undefined,
  shell = "/bin/sh"
): Effect.Effect<Guardian, never, Scope.Scope> =>
  Effect.gen(function*() {
    const mark = `JOBLIB_${randomUUID().replaceAll("-", "_")}`
    const slots = new Map<number, number>()
    const freeSlots: Array<number> = []
    let helper = startHelper(shell, mark, cgroup)
    let unsaid = ""

    /** Tells the helper something: with what it is told next, or else when this turn of the event loop is over. */
    const tellSoon = (line: string) => {
      if (unsaid === "") setImmediate(() => tell(""))
      unsaid += line
    }

    /** Tells it now, for each write wakes the helper. */
    const tell = (lines: string) => {
      const text = unsaid + lines
      unsaid = ""
      if (text !== "") helper?.child.stdin?.write(text)
    }

    const supervise = Effect.gen(function*() {
      yield* awaitExit(helper)
      helper = startHelper(shell, mark, cgroup)
      unsaid = ""
      tell(Array.from(slots, ([pgid, slot]) => `${slot} ${pgid}\n`).join(""))
      yield* awaitExit(helper)
      yield* Effect.logWarning("The guardian is lost: jobs would be left running if this process died")
    })

    yield* Effect.addFinalizer(() => endHelper(helper))
    yield* Effect.forkScoped(Effect.interruptible(supervise))
    yield* awaitReady(helper)

    return {
      mark,
      register: (pgid) => {
        if (slots.has(pgid)) return
        const slot = freeSlots.pop() ?? slots.size
        slots.set(pgid, slot)
        tell(`${slot} ${pgid}\n`)
      },
      unregister: (pgid) => {
        const slot = slots.get(pgid)
        if (slot === undefined) return
        slots.delete(pgid)
        freeSlots.push(slot)
        tellSoon(`${slot}\n`)
      },
      get isAlive() {
        return isRunning(helper) && helper.isReady
      }
    }
  })

/** The same without a cgroup. */
export const make: Effect.Effect<Guardian, never, Scope.Scope> = makeFor(undefined)

/**
 * It leads its own session, out of reach of what the host's group and terminal are sent. Of the environment it gets
 * nothing but the path, lest it carry the mark of a host around this one. The script is no argument, so that `ps` stays
 * readable and `pkill -f sleep` does not hit it.
 */
const startHelper = (shell: string, mark: string, cgroup: string | undefined): Helper | undefined => {
  try {
    const child = spawn(shell, ["-c", "eval \"$SCRIPT\"", "joblib-guardian", `${mark}=1`, cgroup ?? ""], {
      cwd: "/",
      detached: true,
      env: { PATH: `/usr/bin:/bin:${process.env["PATH"] ?? ""}`, SCRIPT: guardianScript },
      stdio: ["pipe", "pipe", "ignore"]
    })
    const helper: Helper = { child, isReady: false }
    child.stdout?.once("data", () => {
      helper.isReady = true
      child.stdout.destroy()
      child.emit(ready)
    })
    child.on("error", ignore)
    child.stdout?.on("error", ignore)
    child.stdin?.on("error", ignore)
    if (child.stdin instanceof Socket) child.stdin.unref()
    if (child.stdout instanceof Socket) child.stdout.unref()
    child.unref()
    return helper
  } catch {
    return undefined
  }
}

const ready = "ready"

const ignore = () => {}

const isRunning = (helper: Helper | undefined): helper is Helper =>
  helper?.child.pid !== undefined && helper.child.exitCode === null && helper.child.signalCode === null

const awaitExit = (helper: Helper | undefined) =>
  Effect.async<void>((resume) => {
    if (!isRunning(helper)) return resume(Effect.void)
    const onExit = () => resume(Effect.void)
    helper.child.once("exit", onExit)
    return Effect.sync(() => helper.child.off("exit", onExit))
  })

/** For a second at most: a machine may be busy, and a guardian that comes late is one all the same. */
const awaitReady = (helper: Helper | undefined) =>
  Effect.async<void>((resume) => {
    if (!isRunning(helper) || helper.isReady) return resume(Effect.void)
    const { child } = helper
    const done = () => {
      stop()
      resume(Effect.void)
    }
    const timer = setTimeout(done, 1000)
    const stop = () => {
      clearTimeout(timer)
      child.off(ready, done)
      child.off("exit", done)
    }
    child.once(ready, done)
    child.once("exit", done)
    return Effect.sync(stop)
  })

/** All jobs have ended: there is nothing left for it to do. Not even a helper that cannot die delays the host's own end. */
const endHelper = (helper: Helper | undefined) =>
  Effect.async<void>((resume) => {
    if (!isRunning(helper)) return resume(Effect.void)
    const done = () => {
      clearTimeout(timer)
      resume(Effect.void)
    }
    const timer = setTimeout(done, 1000)
    helper.child.once("exit", done)
    helper.child.kill("SIGKILL")
  })
