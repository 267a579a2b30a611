/**
 * The bytes that all logs of a coordinator keep in memory together.
 */
import type { OutputLog } from "./outputLog.ts"

export class OutputBudget {
  private readonly maxBytes: number
  private readonly logs = new Set<OutputLog>()
  private used = 0
  private ages = 0

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes
  }

  get isOver(): boolean {
    return this.used > this.maxBytes
  }

  nextAge(): number {
    return this.ages++
  }

  open(log: OutputLog): void {
    this.logs.add(log)
  }

  /** Forgets a log that nobody can read any more. */
  close(log: OutputLog): void {
    if (this.logs.delete(log)) this.used -= log.size()
  }

  add(bytes: number): void {
    this.used += bytes
  }

  remove(log: OutputLog, bytes: number): void {
    if (this.logs.has(log)) this.used -= bytes
  }

  /** Evicts the oldest pieces of all logs until the rest is within the bound, or nothing more may go. */
  makeRoom(): void {
    while (this.isOver) {
      let oldest: OutputLog | undefined
      for (const log of this.logs) {
        if (log.oldestAge < (oldest?.oldestAge ?? Infinity)) oldest = log
      }
      if (oldest === undefined || !oldest.evictOldest()) return
    }
  }
}
