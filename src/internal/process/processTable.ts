/**
 * Who is in which process group, as `/proc` tells. Where there is no `/proc` the table is empty.
 */
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { nextTurn } from "../time/nextTurn.ts"

/** How many members of a group are alive, and how many are zombies that their parent has not reaped. */
export interface Members {
  alive: number
  zombies: number
}

export type Snapshot = ReadonlyMap<number, Members>

export interface ProcessTable {
  /**
   * All groups as they were a moment ago. A snapshot costs some 10 µs a process: those who ask share one, and a new
   * one is made only after ten times the processor time of the last, or for somebody who asks for another than that.
   */
  readonly snapshot: (otherThan?: Snapshot) => Effect.Effect<Snapshot>
}

export const make: Effect.Effect<ProcessTable> = Effect.sync(() => {
  let latest: Snapshot | undefined
  let staleAt = 0

  const renew = Effect.suspend(() => {
    const before = process.cpuUsage()
    return Effect.map(scan, (snapshot) => {
      const { system, user } = process.cpuUsage(before)
      latest = snapshot
      staleAt = performance.now() + 10 * (user + system) / 1000
      return snapshot
    })
  })

  const isFresh = () => performance.now() < staleAt

  const oneAtATime = Effect.unsafeMakeSemaphore(1).withPermits(1)

  return {
    snapshot: (otherThan) =>
      oneAtATime(
        Effect.suspend(() => latest !== undefined && latest !== otherThan && isFresh() ? Effect.succeed(latest) : renew)
      )
  }
})

/** Processes read in one turn of the event loop, so that nobody else waits long. */
const slice = 256

const scan: Effect.Effect<Snapshot> = Effect.gen(function*() {
  const groups = new Map<number, Members>()
  const pids = listPids()
  for (let start = 0; start < pids.length; start += slice) {
    if (start > 0) yield* nextTurn
    for (const pid of pids.slice(start, start + slice)) addProcess(groups, readStat(pid))
  }
  return groups
})

const listPids = (): ReadonlyArray<string> => {
  try {
    return Fs.readdirSync("/proc").filter((name) => name.charCodeAt(0) <= 57)
  } catch {
    return []
  }
}

const readStat = (pid: string): string => {
  try {
    return Fs.readFileSync(`/proc/${pid}/stat`, "latin1")
  } catch {
    return ""
  }
}

const addProcess = (groups: Map<number, Members>, stat: string) => {
  const process = parseStat(stat)
  if (process === undefined) return
  const members = groups.get(process.group)
  if (members === undefined) {
    groups.set(process.group, { alive: process.alive ? 1 : 0, zombies: process.alive ? 0 : 1 })
  } else if (process.alive) members.alive++
  else members.zombies++
}

/** The group of a process and whether it is alive, from its line in `/proc/<pid>/stat`. */
export const parseStat = (stat: string): { readonly group: number; readonly alive: boolean } | undefined => {
  // The name stands in parentheses and may itself contain spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ", 18)
  const [state, , group] = fields
  const threads = fields[17]
  if (state === undefined || group === undefined || threads === undefined) return undefined
  // A process whose first thread has left looks like a zombie while its other threads run on.
  const dead = (state === "Z" || state === "X" || state === "x") && Number(threads) <= 1
  return { group: Number(group), alive: !dead }
}
