/**
 * The process group that a process leads: whether any of it is alive, and signals to all of it.
 */
import * as Effect from "effect/Effect"
import type { Signal } from "../../JobStatus.ts"
import type { ProcessTable, Snapshot } from "./processTable.ts"

/** The longest time between two looks at a group that nobody reports about, in milliseconds. */
const maxDelay = 50

/** The processes of a job as a whole. */
export type Group = Pick<ProcessGroup, "id" | "leaderHasExited" | "signal" | "look" | "isGone" | "awaitGone">

export class ProcessGroup {
  readonly id: number
  private readonly table: ProcessTable
  private readonly onGone: (id: number) => void
  private leaderExited = false
  private gone = false
  private onlyZombiesIn: Snapshot | undefined
  private waiters: Set<() => void> | undefined

  constructor(id: number, table: ProcessTable, onGone: (id: number) => void) {
    this.id = id
    this.table = table
    this.onGone = onGone
  }

  /** To be called once the leader has been reaped. Until then the group exists, whatever else is true. */
  leaderHasExited(): void {
    this.leaderExited = true
    this.look()
    this.waiters?.forEach((wake) => wake())
    this.waiters = undefined
  }

  /** A signal to every member; nothing once the group is gone, for its number may be another group's by now. */
  signal(signal: Signal): void {
    if (!this.look()) kill(this.id, signal)
  }

  /** Looks without waiting: `true` once the group is known to be gone. */
  look(): boolean {
    if (!this.gone && this.leaderExited && kill(this.id, 0) === "ESRCH") this.markGone()
    return this.gone
  }

  get isGone(): Effect.Effect<boolean> {
    return Effect.suspend(() =>
      this.look() || !this.leaderExited
        ? Effect.succeed(this.gone)
        : Effect.flatMap(this.table.snapshot(this.onlyZombiesIn), (snapshot) => this.judge(snapshot))
    )
  }

  get awaitGone(): Effect.Effect<void> {
    return Effect.zipRight(this.awaitLeader, this.poll(1))
  }

  private poll(delay: number): Effect.Effect<void> {
    return Effect.flatMap(
      this.isGone,
      (gone) => gone ? Effect.void : Effect.zipRight(Effect.sleep(delay), this.poll(Math.min(2 * delay, maxDelay)))
    )
  }

  private get awaitLeader(): Effect.Effect<void> {
    return Effect.async((resume) => {
      if (this.leaderExited) return resume(Effect.void)
      const wake = () => resume(Effect.void)
      this.waiters = (this.waiters ?? new Set()).add(wake)
      return Effect.sync(() => this.waiters?.delete(wake))
    })
  }

  /**
   * A group of zombies is gone: somebody else must reap them, and in many containers nobody does. A snapshot is not
   * taken at one instant, so that members who fork fast may hide from it: two must agree, and SIGKILL, which no member
   * can outrun, makes sure.
   */
  private judge(snapshot: Snapshot): Effect.Effect<boolean> {
    const members = snapshot.get(this.id)
    if (members === undefined || members.alive > 0) {
      this.onlyZombiesIn = undefined
      return Effect.sync(() => this.look())
    }
    if (this.onlyZombiesIn === undefined || this.onlyZombiesIn === snapshot) {
      this.onlyZombiesIn = snapshot
    } else if (!this.look()) {
      kill(this.id, "SIGKILL")
      this.markGone()
    }
    return this.isGone
  }

  private markGone(): void {
    this.gone = true
    this.onGone(this.id)
  }
}

/** Signals a group; `undefined`, or the code of what went wrong. Signal 0 only asks whether there is a member. */
const kill = (group: number, signal: Signal | 0): string | undefined => {
  try {
    process.kill(-group, signal)
    return undefined
  } catch (error) {
    return error instanceof Error && "code" in error ? String(error.code) : "UNKNOWN"
  }
}
