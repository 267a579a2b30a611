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
import type { JobSpec } from "../../JobSpec.ts"
import { type Ended, type FatalSignal, Killed, Signal } from "../../JobStatus.ts"
import type { OutputSource } from "../../Output.ts"
import type { Process, ProcessListener } from "../../ProcessSpawner.ts"
import { canonical, isBefore, Member, type Program } from "./member.ts"
import { SimulatedInput } from "./simulatedInput.ts"

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

  spawn(spec: JobSpec, program: Program, listener: ProcessListener): SimulatedProcess {
    const input = new SimulatedInput(spec.stdin === "pipe", this.now)
    const group = new SimulatedProcess(this, spec, input, listener, this.nextPid)
    this.groups.add(group)
    this.enter(group, program)
    this.settle()
    return group
  }

  /** Forgets a group of which nothing is left. */
  forget(group: SimulatedProcess): void {
    this.groups.delete(group)
  }

  get now(): number {
    return this.world.clock.unsafeCurrentTimeMillis()
  }

  /**
   * Lets everybody do what is due, in order of time; at one time output comes before ends, and then whoever started
   * first. Whatever changes a process calls this afterwards.
   */
  settle(): void {
    const { now } = this
    let next = this.next()
    while (next !== undefined && next.at <= now) {
      next.act()
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
    group.members.add(new Member(this.nextPid, program, group))
    this.world.record({ _tag: "Spawned", pid: this.nextPid, command: group.command })
    this.nextPid += 1
    for (const child of program.children) this.enter(group, child)
  }

  private next(): Member["next"] {
    let first: Member["next"]
    for (const group of this.groups) {
      for (const member of group.members) {
        const { next } = member
        if (next !== undefined && isBefore(next, first)) first = next
      }
    }
    return first
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
  readonly input: SimulatedInput
  private readonly simulation: Simulation
  /** Whether all is written to one pipe. */
  private readonly joinsErrors: boolean
  private readonly listener: ProcessListener
  private readonly pipes = { stdout: { paused: false, ended: false }, stderr: { paused: false, ended: false } }
  private readonly gone = Deferred.unsafeMake<void>(FiberId.none)

  constructor(
    simulation: Simulation,
    spec: JobSpec,
    input: SimulatedInput,
    listener: ProcessListener,
    pid: number
  ) {
    this.simulation = simulation
    this.command = spec.command
    this.joinsErrors = spec.stderr === "stdout"
    this.input = input
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

  /** Waits for room, writes, and waits until there is room for more. */
  writeInput(bytes: Uint8Array): Effect.Effect<boolean> {
    return Effect.flatten(this.change(() => {
      if (!this.input.isOpen) return Effect.succeed(false)
      if (!this.input.hasRoom) {
        return Effect.flatMap(this.input.room, (open) => open ? this.writeInput(bytes) : Effect.succeed(false))
      }
      this.input.write(bytes, this.now)
      return this.input.room
    }))
  }

  get closeInput(): Effect.Effect<void> {
    return this.change(() => this.input.end(this.now))
  }

  /** The scope closes: what is left of the group dies, and nothing stays open. */
  get release(): Effect.Effect<void> {
    return this.change(() => {
      for (const member of this.group) this.end(member, new Killed({ signal: "SIGKILL" }))
      this.closeOutput()
    })
  }

  get now(): number {
    return this.simulation.now
  }

  /** Whether a writer would have to wait. */
  isFull(source: OutputSource): boolean {
    const pipe = this.pipes[this.pipeOf(source)]
    return pipe.paused && !pipe.ended
  }

  write(member: Member, source: OutputSource, bytes: Uint8Array): void {
    const name = this.pipeOf(source)
    const pipe = this.pipes[name]
    if (pipe.ended) return member.receive("SIGPIPE")
    if (!this.listener.onOutput(name, bytes)) pipe.paused = true
  }

  private pipeOf(source: OutputSource): OutputSource {
    return this.joinsErrors ? "stdout" : source
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
      this.input.close()
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

const isSignal = Schema.is(Signal)
