/**
 * Processes that follow a program of timed actions. One clock moves all of them: a single alarm sleeps until the next
 * action of anybody, and what is due then is done in an order that depends on nothing but the programs.
 */
import type * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Schema from "effect/Schema"
import { type Ended, type FatalSignal, Killed, Signal } from "../../JobStatus.ts"
import type { OutputSource } from "../../Output.ts"
import type { Process, ProcessListener } from "../../ProcessSpawner.ts"

/** Times are milliseconds since the start of the process, and never go back from one action to the next. */
export type Action =
  | { readonly _tag: "Write"; readonly at: number; readonly source: OutputSource; readonly bytes: Uint8Array }
  | { readonly _tag: "End"; readonly at: number; readonly status: Ended }

export interface Program {
  readonly actions: ReadonlyArray<Action>
  readonly ignores: ReadonlySet<Signal>
  readonly escaped: boolean
  readonly holdsPipes: boolean
  readonly children: ReadonlyArray<Program>
}

/** Everything a simulation asks of the world around it. */
export interface World {
  readonly clock: Clock.Clock
  readonly fork: (alarm: Effect.Effect<void>) => Fiber.RuntimeFiber<void>
  readonly record: (event: {
    readonly _tag: "Spawned" | "Signalled" | "Exited"
    readonly pid: number
    readonly command: string
    readonly signal?: FatalSignal
  }) => void
}

const firstPid = 1000

export class Simulation {
  readonly world: World
  private readonly groups = new Set<SimulatedProcess>()
  private nextPid = firstPid
  private alarm: { readonly at: number; readonly fiber: Fiber.RuntimeFiber<void> } | undefined

  constructor(world: World) {
    this.world = world
  }

  spawn(command: string, program: Program, hasInput: boolean, listener: ProcessListener): SimulatedProcess {
    const group = new SimulatedProcess(this, command, hasInput, listener, this.nextPid)
    this.groups.add(group)
    this.enter(group, program)
    this.settle()
    return group
  }

  /** Forgets a group of which nothing is left. */
  forget(group: SimulatedProcess): void {
    this.groups.delete(group)
  }

  /**
   * Lets everybody do what is due, in order of time; at one time output comes before ends, and then whoever started
   * first. Whatever changes a process calls this afterwards.
   */
  settle(): void {
    const now = this.world.clock.unsafeCurrentTimeMillis()
    let next = this.next()
    while (next !== undefined && next.at <= now) {
      next.member.act()
      next = this.next()
    }
    this.setAlarm(next?.at, now)
  }

  /** Nothing happens by itself any more. */
  close(): void {
    this.groups.clear()
    this.settle()
  }

  private enter(group: SimulatedProcess, program: Program): void {
    group.members.add(new Member(this.nextPid, program, group, this.world.clock.unsafeCurrentTimeMillis()))
    this.world.record({ _tag: "Spawned", pid: this.nextPid, command: group.command })
    this.nextPid += 1
    for (const child of program.children) this.enter(group, child)
  }

  private next(): { readonly at: number; readonly member: Member } | undefined {
    let at = Infinity
    let first: Member | undefined
    for (const group of this.groups) {
      for (const member of group.members) {
        const due = member.due
        if (due < at || (due === at && first?.isEnding === true && !member.isEnding)) {
          at = due
          first = member
        }
      }
    }
    return first === undefined ? undefined : { at, member: first }
  }

  private setAlarm(at: number | undefined, now: number): void {
    if (at === this.alarm?.at) return
    this.alarm?.fiber.unsafeInterruptAsFork(FiberId.none)
    this.alarm = at === undefined ? undefined : { at, fiber: this.world.fork(this.ringAfter(at - now)) }
  }

  private ringAfter(millis: number): Effect.Effect<void> {
    return Effect.interruptible(Effect.zipRight(
      this.world.clock.sleep(Duration.millis(millis)),
      Effect.sync(() => {
        this.alarm = undefined
        this.settle()
      })
    ))
  }
}

/** The seam's view of a leader and all that came from it. */
export class SimulatedProcess implements Process {
  readonly pid: number
  readonly command: string
  /** Those alive, in the order of their start. */
  readonly members = new Set<Member>()
  private readonly simulation: Simulation
  private readonly listener: ProcessListener
  private readonly pipes = { stdout: { paused: false, ended: false }, stderr: { paused: false, ended: false } }
  private readonly gone = Deferred.unsafeMake<void>(FiberId.none)
  private inputIsOpen: boolean

  constructor(simulation: Simulation, command: string, hasInput: boolean, listener: ProcessListener, pid: number) {
    this.simulation = simulation
    this.command = command
    this.inputIsOpen = hasInput
    this.listener = listener
    this.pid = pid
  }

  signal(signal: Signal): Effect.Effect<void> {
    return this.change(() => {
      if (!isSignal(signal)) return
      if (this.group.length > 0) {
        this.simulation.world.record({ _tag: "Signalled", pid: this.pid, command: this.command, signal })
      }
      for (const member of this.group) member.receive(canonical(signal))
    })
  }

  get isGone(): Effect.Effect<boolean> {
    return Effect.sync(() => this.group.length === 0)
  }

  get awaitGone(): Effect.Effect<void> {
    return Deferred.await(this.gone)
  }

  get resumeOutput(): Effect.Effect<void> {
    return this.change(() => {
      this.pipes.stdout.paused = false
      this.pipes.stderr.paused = false
      this.endOutput()
    })
  }

  get cutOutput(): Effect.Effect<boolean> {
    return this.change(() => this.closeOutput())
  }

  writeInput(_bytes: Uint8Array): Effect.Effect<boolean> {
    return Effect.sync(() => this.inputIsOpen)
  }

  get closeInput(): Effect.Effect<void> {
    return Effect.sync(() => {
      this.inputIsOpen = false
    })
  }

  /** The scope closes: what is left of the group dies, and nothing stays open. */
  get release(): Effect.Effect<void> {
    return this.change(() => {
      for (const member of this.group) this.end(member, new Killed({ signal: "SIGKILL" }))
      this.closeOutput()
    })
  }

  /** Whether a writer would have to wait. */
  isFull(source: OutputSource): boolean {
    return this.pipes[source].paused && !this.pipes[source].ended
  }

  write(member: Member, source: OutputSource, bytes: Uint8Array): void {
    if (this.pipes[source].ended) return member.receive("SIGPIPE")
    if (!this.listener.onOutput(source, bytes)) this.pipes[source].paused = true
  }

  end(member: Member, status: Ended): void {
    this.members.delete(member)
    this.simulation.world.record({
      _tag: "Exited",
      pid: member.pid,
      command: this.command,
      ...(status._tag === "Killed" ? { signal: status.signal } : {})
    })
    // A process that exits closes its descriptors first.
    this.endOutput()
    if (member.pid === this.pid) {
      this.inputIsOpen = false
      this.listener.onExit(status, this.group.length === 0)
    }
    if (this.group.length === 0) Deferred.unsafeDone(this.gone, Effect.void)
    if (this.members.size === 0) this.simulation.forget(this)
  }

  private get group(): ReadonlyArray<Member> {
    return Array.from(this.members).filter((member) => !member.program.escaped)
  }

  private change<A>(f: () => A): Effect.Effect<A> {
    return Effect.sync(() => {
      const result = f()
      this.simulation.settle()
      return result
    })
  }

  /** Nobody holds the pipes any more: a reader that reads on comes to their end. */
  private endOutput(): void {
    for (const member of this.members) if (member.program.holdsPipes) return
    if (!this.pipes.stdout.paused) this.endSource("stdout")
    if (!this.pipes.stderr.paused) this.endSource("stderr")
  }

  /** Whether there was anything to close. */
  private closeOutput(): boolean {
    const { stderr, stdout } = this.pipes
    const wasOpen = !stdout.ended || !stderr.ended
    this.endSource("stdout")
    this.endSource("stderr")
    return wasOpen
  }

  private endSource(source: OutputSource): void {
    if (this.pipes[source].ended) return
    this.pipes[source].ended = true
    this.listener.onOutputEnd(source)
  }
}

class Member {
  readonly pid: number
  readonly program: Program
  private readonly group: SimulatedProcess
  private readonly startedAt: number
  private done = 0
  private isStopped = false
  private pending: ReadonlyArray<Signal> = []

  constructor(pid: number, program: Program, group: SimulatedProcess, startedAt: number) {
    this.pid = pid
    this.program = program
    this.group = group
    this.startedAt = startedAt
  }

  /** When the next action is due, in milliseconds of the clock; `Infinity` while there is none that can happen. */
  get due(): number {
    const action = this.program.actions[this.done]
    return action === undefined || this.isStopped || this.isBlockedBy(action) ? Infinity : this.startedAt + action.at
  }

  get isEnding(): boolean {
    return this.program.actions[this.done]?._tag === "End"
  }

  act(): void {
    const action = this.program.actions[this.done]
    if (action === undefined) return
    this.done += 1
    if (action._tag === "End") return this.group.end(this, action.status)
    if (this.program.holdsPipes) this.group.write(this, action.source, action.bytes)
  }

  receive(signal: Signal): void {
    if (!this.group.members.has(this)) return
    if (signal === "SIGCONT") return this.resume()
    if (signal === "SIGSTOP") this.isStopped = true
    else if (signal === "SIGKILL") this.group.end(this, new Killed({ signal }))
    else if (this.program.ignores.has(signal) || harmless.has(signal)) return
    else if (this.isStopped) this.pending = [...this.pending, signal]
    else this.group.end(this, new Killed({ signal }))
  }

  private resume(): void {
    const pending = this.pending
    this.isStopped = false
    this.pending = []
    for (const signal of pending) this.receive(signal)
  }

  private isBlockedBy(action: Action): boolean {
    return action._tag === "Write" && this.program.holdsPipes && this.group.isFull(action.source)
  }
}

/**
 * Signals that by default do nothing to a job: the last three would stop it, but the kernel does not let a terminal
 * stop a process group that, as a job's, has no parent in its session.
 */
const harmless: ReadonlySet<Signal> = new Set<Signal>([
  "SIGCHLD",
  "SIGURG",
  "SIGWINCH",
  "SIGTSTP",
  "SIGTTIN",
  "SIGTTOU"
])

const isSignal = Schema.is(Signal)

/** Two signals have two names each; the operating system reports one of them. */
export const canonical = (signal: Signal): Signal =>
  signal === "SIGIOT" ? "SIGABRT" : signal === "SIGPOLL" ? "SIGIO" : signal
