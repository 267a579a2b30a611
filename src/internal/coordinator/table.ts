/**
 * The table of jobs, and what becomes known of its changes. The coordinator's fiber alone uses it.
 */
import type * as Clock from "effect/Clock"
import * as Exit from "effect/Exit"
import type { Settings } from "../../JobConfig.ts"
import { JobNotFound, JobStillRunning } from "../../JobError.ts"
import { JobEnded, JobRemoved, JobStarted } from "../../JobEvent.ts"
import type { JobId } from "../../JobId.ts"
import type { JobInfo } from "../../JobInfo.ts"
import type { JobStatus } from "../../JobStatus.ts"
import * as Telemetry from "../telemetry/telemetry.ts"
import { monotonic } from "../time/monotonic.ts"
import { infoOf } from "../worker/jobInfo.ts"
import type { Worker } from "../worker/worker.ts"
import type { EventLog } from "./eventLog.ts"
import { Retention } from "./retention.ts"

/** Which jobs to list: of this status, with all of these labels. */
export interface Filter {
  readonly status?: JobStatus["_tag"] | undefined
  readonly labels?: Readonly<Record<string, string>> | undefined
}

export class Table {
  private readonly jobs = new Map<JobId, Worker>()
  private readonly events: EventLog
  private readonly retention: Retention<Worker>
  private readonly clock: Clock.Clock

  constructor(settings: Settings["retention"], events: EventLog, clock: Clock.Clock) {
    this.events = events
    this.retention = new Retention(settings)
    this.clock = clock
  }

  get size(): number {
    return this.jobs.size
  }

  get running(): ReadonlyArray<Worker> {
    return Array.from(this.jobs.values()).filter((worker) => worker.state.endedAt === undefined)
  }

  add(worker: Worker): void {
    this.jobs.set(worker.id, worker)
    this.events.publish(() => new JobStarted({ info: infoOf(worker) }, { disableValidation: true }))
  }

  /** A job that was added has ended, or was given up. Called once for each. */
  end(worker: Worker): void {
    const info = infoOf(worker)
    Telemetry.jobEnded(info, worker.span, this.clock)
    if (worker.state.endedAt === undefined) return
    this.events.publish(() => new JobEnded({ info }, { disableValidation: true }))
    this.retention.add(worker, monotonic(this.clock))
  }

  /** Removes the jobs that retention lets go: after how many milliseconds the next one's time is over, or `Infinity`. */
  expire(): number {
    const now = monotonic(this.clock)
    this.retention.takeExpired(now).forEach((worker) => this.delete(worker))
    return this.retention.nextExpiry - now
  }

  has(worker: Worker): boolean {
    return this.jobs.has(worker.id)
  }

  find(id: JobId): Exit.Exit<Worker, JobNotFound> {
    const worker = this.jobs.get(id)
    return worker === undefined
      ? Exit.fail(new JobNotFound({ id }, { disableValidation: true }))
      : Exit.succeed(worker)
  }

  list(filter: Filter): ReadonlyArray<JobInfo> {
    const infos: Array<JobInfo> = []
    for (const worker of this.jobs.values()) if (matches(worker, filter)) infos.push(infoOf(worker))
    return infos
  }

  remove(id: JobId): Exit.Exit<void, JobNotFound | JobStillRunning> {
    return Exit.flatMap(this.find(id), (worker) =>
      worker.state.endedAt === undefined
        ? Exit.fail(new JobStillRunning({ id }, { disableValidation: true }))
        : Exit.succeed(this.delete(worker)))
  }

  /** Nobody may read any more, but for those who do. Gives all jobs. */
  close(): ReadonlyArray<Worker> {
    const all = Array.from(this.jobs.values())
    for (const worker of all) worker.broadcaster.close()
    return all
  }

  private delete(worker: Worker): void {
    this.jobs.delete(worker.id)
    this.retention.delete(worker)
    worker.broadcaster.remove()
    this.events.publish(() => new JobRemoved({ id: worker.id }, { disableValidation: true }))
  }
}

const matches = (worker: Worker, filter: Filter): boolean =>
  (filter.status === undefined || worker.state.status._tag === filter.status) &&
  Object.entries(filter.labels ?? {}).every(([name, value]) => worker.spec.labels[name] === value)
