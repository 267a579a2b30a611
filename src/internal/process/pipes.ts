/**
 * Pipes of the kernel, which Node does not make: what it calls a pipe is a socket, and no program can open `/dev/stderr` or
 * `/dev/stdin` if that is a socket.
 *
 * A shell makes them, by here-documents, one for each of its descriptors from 2 to 9. This process opens both ends through
 * `/proc` and tells the shell which it has, so that a new pipe takes the place of each. There is no file to be removed, and
 * a pipe has no name by which anybody else could find it. A FIFO would do only until a program opens `/dev/stdin` when its
 * last writer has left: on a FIFO that waits for a writer, for ever.
 */
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import * as Fs from "node:fs"
import { Socket } from "node:net"
import * as Descriptors from "./descriptors.ts"

/** The descriptors of both ends, in this process. */
export interface Pipe {
  readonly read: number
  readonly write: number
}

export interface Pipes {
  /** Whether there are pipes enough for any job, or none are to be had. */
  readonly isReady: () => boolean
  /**
   * New pipes, which belong to the caller; `undefined` if they cannot be had. Throws what the system does when it is out of
   * descriptors.
   */
  readonly take: (count: number) => ReadonlyArray<Pipe> | undefined
}

/** As many as a job may need. */
const perJob = 3

/** A shell that takes longer to answer somebody who waits for it is given up, in milliseconds. */
const patience = 2000

/** The same for its first answer. */
const patienceAtFirst = 5000

/** How long nobody tries again after a shell has made no pipe at all, in milliseconds. */
const pause = 10_000

const slots = "2 3 4 5 6 7 8 9"

/** A here-document is written into the pipe; an empty one would be none in some shells. */
const content = "x\n"

const script = `
trap '' HUP INT QUIT PIPE TERM
while read -r slots; do
  for slot in $slots; do
    eval "exec $slot<<END
${content}END
"
  done
  echo "$slots"
done
`

/** Pipes for as long as the scope is open. `onReady` is called when `isReady` may have become true. */
export const make = (onReady: () => void, shell = "/bin/sh"): Effect.Effect<Pipes, never, Scope.Scope> =>
  Effect.gen(function*() {
    const run = Runtime.runFork(yield* Effect.runtime<never>())
    let maker: Maker | undefined
    let notBefore = 0
    let isSaid = false
    let overdue: NodeJS.Timeout | undefined

    const start = () => {
      maker = startMaker(shell, onAnswer, lose)
      if (maker === undefined) giveUp("no shell could be started")
    }

    const onAnswer = (from: Maker) => {
      if (from !== maker) return
      clearTimeout(overdue)
      overdue = undefined
      onReady()
    }

    /** One that has worked is replaced at once. */
    const lose = (lost: Maker) => {
      if (lost !== maker) return
      maker = undefined
      clearTimeout(overdue)
      overdue = undefined
      endMaker(lost)
      if (lost.works) start()
      else giveUp("the shell makes none")
      onReady()
    }

    const giveUp = (why: string) => {
      notBefore = performance.now() + pause
      if (isSaid) return
      isSaid = true
      run(Effect.logDebug(`Jobs get sockets, for there are no pipes: ${why}`))
    }

    const isReady = () => {
      if (maker === undefined && performance.now() >= notBefore) start()
      if (maker === undefined || maker.free.length >= perJob || (!maker.works && notBefore > 0)) return true
      overdue ??= expect(maker)
      return false
    }

    /** A timer that keeps the event loop alive for who waits. What has been answered by then is read before it is judged. */
    const expect = (late: Maker) => {
      const judge = () => overdue === timer && lose(late)
      const timer = setTimeout(
        () => setImmediate(() => setImmediate(judge)),
        late.works ? patience : patienceAtFirst
      )
      return timer
    }

    const take = (count: number): ReadonlyArray<Pipe> | undefined => {
      const from = maker
      if (from === undefined || from.free.length < count) return undefined
      const taken = from.free.splice(0, count)
      const pipes: Array<Pipe> = []
      try {
        for (const slot of taken) pipes.push(open(`/proc/${from.pid}/fd/${slot}`))
        return pipes
      } catch (error) {
        pipes.forEach(close)
        if (isExhaustion(error)) throw error
        lose(from)
        return undefined
      } finally {
        if (from === maker) from.child.stdin?.write(`${taken.join(" ")}\n`)
      }
    }

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        const last = maker
        maker = undefined
        notBefore = Infinity
        clearTimeout(overdue)
        if (last !== undefined) endMaker(last)
      })
    )
    start()
    return { isReady, take }
  })

interface Maker {
  readonly child: ChildProcess
  readonly pid: number
  /** Its descriptors that are new pipes. */
  readonly free: Array<string>
  /** Whether it has made any. */
  works: boolean
}

/** It leads its own session, out of reach of what the host's group and terminal are sent, and has an empty environment. */
const startMaker = (
  shell: string,
  onAnswer: (maker: Maker) => void,
  onLost: (maker: Maker) => void
): Maker | undefined => {
  try {
    // Elsewhere another process would have its number.
    if (Fs.readlinkSync("/proc/self") !== `${process.pid}`) return undefined
    Descriptors.expectEnough()
    const child = spawn(shell, ["-c", script, "joblib-pipes"], {
      cwd: "/",
      detached: true,
      env: {},
      stdio: ["pipe", "pipe", "ignore"]
    })
    const { pid, stdin, stdout } = child
    child.on("error", ignore)
    if (pid === undefined || stdin === null || stdout === null) return undefined
    const maker: Maker = { child, pid, free: [], works: false }
    const lose = () => onLost(maker)
    child.on("exit", lose)
    stdin.on("error", lose)
    stdout.on("error", lose)
    stdout.setEncoding("latin1")
    stdout.on("data", (answer: string) => {
      const made = answer.split(/\s+/).filter((slot) => slot !== "")
      if (!maker.works && !made.every((slot) => isPipe(`/proc/${pid}/fd/${slot}`))) return lose()
      maker.works = true
      maker.free.push(...made)
      onAnswer(maker)
    })
    stdin.write(`${slots}\n`)
    for (const stream of [stdin, stdout]) if (stream instanceof Socket) stream.unref()
    child.unref()
    return maker
  } catch {
    return undefined
  }
}

const ignore = () => {}

const endMaker = ({ child }: Maker) => {
  child.stdin?.destroy()
  child.stdout?.destroy()
  child.kill("SIGKILL")
}

/** Shells have used files for here-documents. */
const isPipe = (path: string): boolean => {
  try {
    return Fs.statSync(path).isFIFO()
  } catch {
    return false
  }
}

const { O_NONBLOCK, O_RDONLY, O_WRONLY } = Fs.constants

const first = Buffer.alloc(content.length + 1)

const open = (path: string): Pipe => {
  const read = Fs.openSync(path, O_RDONLY | O_NONBLOCK)
  try {
    const write = Fs.openSync(path, O_WRONLY | O_NONBLOCK)
    if (Fs.readSync(read, first) === content.length) return { read, write }
    Fs.closeSync(write)
    throw new Error("a pipe that holds something else")
  } catch (error) {
    Fs.closeSync(read)
    throw error
  }
}

export const close = ({ read, write }: Pipe): void => {
  closeEnd(read)
  closeEnd(write)
}

export const closeEnd: (descriptor: number) => void = Fs.closeSync

const isExhaustion = (error: unknown): boolean =>
  error instanceof Error && "code" in error &&
  (error.code === "EMFILE" || error.code === "ENFILE" || error.code === "ENOMEM")
