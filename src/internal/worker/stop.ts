/**
 * How one job is stopped: once, with one deadline. The first call begins it, and a later one can only make it harsher.
 */
import * as Duration from "effect/Duration"
import type { Signal } from "../../JobStatus.ts"

/** How to stop; what is absent is as the job's own policy says. */
export interface StopOptions {
  readonly signal?: Signal | undefined
  readonly gracePeriod?: Duration.Duration | undefined
}

export class Stop {
  readonly signal: Signal
  readonly gracePeriod: Duration.Duration
  private readonly sent = new Set<Signal>()
  private deadline: number | undefined

  constructor(signal: Signal, gracePeriod: Duration.Duration) {
    this.signal = signal
    this.gracePeriod = gracePeriod
  }

  get hasBegun(): boolean {
    return this.deadline !== undefined
  }

  /** Begins at a time in milliseconds: the signals to send now, and how long to wait before `kill`, unless it is being waited for. */
  begin(
    options: StopOptions,
    now: number
  ): { readonly signals: ReadonlyArray<Signal>; readonly killAfter?: Duration.Duration } {
    const signal = options.signal ?? this.signal
    const grace = signal === "SIGKILL" ? Duration.zero : options.gracePeriod ?? this.gracePeriod
    const deadline = now + Duration.toMillis(grace)
    if (deadline >= (this.deadline ?? Infinity) && this.deadline !== undefined) return { signals: this.send(signal) }
    this.deadline = deadline
    return deadline <= now
      ? { signals: [...this.send(signal), ...this.kill()] }
      : { signals: this.send(signal), killAfter: grace }
  }

  kill(): ReadonlyArray<Signal> {
    return this.send("SIGKILL")
  }

  /** Each signal once. A stopped (SIGSTOP) process gets no signal but SIGKILL before it is continued. */
  private send(signal: Signal): ReadonlyArray<Signal> {
    if (this.sent.has(signal) || this.sent.has("SIGKILL")) return []
    this.sent.add(signal)
    return signal === "SIGKILL" ? [signal] : [signal, "SIGCONT"]
  }
}
