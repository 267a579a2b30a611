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
  /** Whether the helper runs now. */
  readonly isAlive: boolean
}

/**
 * A guardian for as long as the scope is open. A helper that cannot start or dies is started once more. If there is a
 * cgroup, all that is in it ends with the host, and so does the cgroup.
 */
export const makeFor = (cgroup: string | undefined): Effect.Effect<Guardian, never, Scope.Scope> =>
  Effect.gen(function*() {
    const mark = `JOBLIB_${randomUUID().replaceAll("-", "_")}`
    const slots = new Map<number, number>()
    const freeSlots: Array<number> = []
    let helper = startHelper(mark, cgroup)
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
      if (text !== "") helper?.stdin?.write(text)
    }

    const supervise = Effect.gen(function*() {
      yield* awaitExit(helper)
      helper = startHelper(mark, cgroup)
      unsaid = ""
      tell(Array.from(slots, ([pgid, slot]) => `${slot} ${pgid}\n`).join(""))
      yield* awaitExit(helper)
      yield* Effect.logWarning("The guardian is lost: jobs would be left running if this process died")
    })

    yield* Effect.addFinalizer(() => endHelper(helper))
    yield* Effect.forkScoped(Effect.interruptible(supervise))

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
        return isRunning(helper)
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
const startHelper = (mark: string, cgroup: string | undefined): ChildProcess | undefined => {
  try {
    const helper = spawn("/bin/sh", ["-c", "eval \"$SCRIPT\"", "joblib-guardian", `${mark}=1`, cgroup ?? ""], {
      cwd: "/",
      detached: true,
      env: { PATH: `/usr/bin:/bin:${process.env["PATH"] ?? ""}`, SCRIPT: guardianScript },
      stdio: ["pipe", "ignore", "ignore"]
    })
    helper.on("error", ignore)
    helper.stdin?.on("error", ignore)
    if (helper.stdin instanceof Socket) helper.stdin.unref()
    helper.unref()
    return helper
  } catch {
    return undefined
  }
}

const ignore = () => {}

const isRunning = (helper: ChildProcess | undefined): helper is ChildProcess =>
  helper?.pid !== undefined && helper.exitCode === null && helper.signalCode === null

const awaitExit = (helper: ChildProcess | undefined) =>
  Effect.async<void>((resume) => {
    if (!isRunning(helper)) return resume(Effect.void)
    const onExit = () => resume(Effect.void)
    helper.once("exit", onExit)
    return Effect.sync(() => helper.off("exit", onExit))
  })

/** All jobs have ended: there is nothing left for it to do. Not even a helper that cannot die delays the host's own end. */
const endHelper = (helper: ChildProcess | undefined) =>
  Effect.async<void>((resume) => {
    if (!isRunning(helper)) return resume(Effect.void)
    const done = () => {
      clearTimeout(timer)
      resume(Effect.void)
    }
    const timer = setTimeout(done, 1000)
    helper.once("exit", done)
    helper.kill("SIGKILL")
  })
