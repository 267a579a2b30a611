/**
 * The process group of a job, and whatever has left it: all that is in the job's cgroup.
 */
import * as Effect from "effect/Effect"
import type { Signal } from "../../JobStatus.ts"
import type { Cgroup } from "./cgroup.ts"
import type { Group, ProcessGroup } from "./processGroup.ts"

/** The longest time between two looks at a cgroup, in milliseconds. */
const maxDelay = 50

export class CgroupTree implements Group {
  private readonly group: ProcessGroup
  private readonly cgroup: Cgroup
  private killed = false
  private gone = false

  constructor(group: ProcessGroup, cgroup: Cgroup) {
    this.group = group
    this.cgroup = cgroup
  }

  get id(): number {
    return this.group.id
  }

  leaderHasExited(): void {
    this.group.leaderHasExited()
  }

  signal(signal: Signal): void {
    if (this.gone) return
    this.group.signal(signal)
    if (signal !== "SIGKILL") return this.cgroup.signalAllBut(this.id, signal)
    this.killed = true
    this.cgroup.kill()
  }

  look(): boolean {
    return this.group.look() && this.judge()
  }

  get isGone(): Effect.Effect<boolean> {
    return Effect.map(this.group.isGone, (groupIsGone) => groupIsGone && this.judge())
  }

  get awaitGone(): Effect.Effect<void> {
    return Effect.zipRight(this.group.awaitGone, this.poll(1))
  }

  private poll(delay: number): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.judge() ? Effect.void : Effect.zipRight(Effect.sleep(delay), this.poll(Math.min(2 * delay, maxDelay)))
    )
  }

  /** A host that is out of descriptors cannot kill a cgroup: it tries again. */
  private judge(): boolean {
    if (this.gone) return true
    if (this.cgroup.isPopulated) {
      if (this.killed) this.cgroup.kill()
      return false
    }
    this.cgroup.remove()
    return this.gone = true
  }
}
