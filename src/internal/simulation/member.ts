/**
 * One simulated process: what it does at its times, and how it reacts to signals and to input.
 */
import { type Ended, Killed, type Signal } from "../../JobStatus.ts"
import type { OutputSource } from "../../Output.ts"
import type { SimulatedInput } from "./simulatedInput.ts"

/** Times are milliseconds since the beginning of the course, and never go back from one action to the next. */
export type Action =
  | { readonly _tag: "Write"; readonly at: number; readonly source: OutputSource; readonly bytes: Uint8Array }
  | { readonly _tag: "End"; readonly at: number; readonly status: Ended }

/** What is done one after the other. */
export type Course = ReadonlyArray<Action>

export interface Program {
  readonly actions: Course
  readonly ignores: ReadonlySet<Signal>
  readonly onSignal: ReadonlyMap<Signal, Course>
  /** What it does about its input, line by line; `undefined`: it does not read it. */
  readonly input: { readonly onLine: (line: string) => Course; readonly onEnd: Course } | undefined
  readonly closesInput: boolean
  readonly escaped: boolean
  readonly holdsPipes: boolean
  readonly children: ReadonlyArray<Program>
}

/** The job that a process belongs to. */
export interface Group {
  readonly now: number
  readonly input: SimulatedInput
  readonly members: ReadonlySet<Member>
  readonly isFull: (source: OutputSource) => boolean
  readonly write: (member: Member, source: OutputSource, bytes: Uint8Array) => void
  readonly end: (member: Member, status: Ended) => void
}

/** A course that is under way. */
interface Track {
  readonly actions: Course
  readonly startedAt: number
  done: number
}

/** Something that a process can do, and when it is due. */
interface Step {
  readonly at: number
  readonly isEnding: boolean
  readonly act: () => void
}

export class Member {
  readonly pid: number
  readonly program: Program
  private readonly group: Group
  private readonly tracks: Array<Track> = []
  private isStopped = false
  private pending: ReadonlyArray<Signal> = []
  /** What it has read of its input, and is doing about it. */
  private readonly decoder = new TextDecoder()
  private lines: Array<string> = []
  private rest = ""
  private reaction: Track | undefined
  private sawEnd = false

  constructor(pid: number, program: Program, group: Group) {
    this.pid = pid
    this.program = program
    this.group = group
    if (program.closesInput) group.input.close()
    this.begin(program.actions)
  }

  /** What it does next, if there is anything that can happen: at one time output comes before an end. */
  get next(): Step | undefined {
    if (this.isStopped) return undefined
    let next = this.nextOfInput
    for (const track of this.tracks) {
      const action = track.actions[track.done]
      if (action === undefined || this.isBlockedBy(action)) continue
      const at = track.startedAt + action.at
      const isEnding = action._tag === "End"
      if (isBefore({ at, isEnding }, next)) next = { at, isEnding, act: () => this.act(track, action) }
    }
    return next
  }

  receive(signal: Signal): void {
    if (!this.group.members.has(this)) return
    const reaction = this.program.onSignal.get(signal)
    if (signal === "SIGCONT") this.resume()
    if (signal === "SIGSTOP") this.isStopped = true
    else if (signal === "SIGKILL") this.group.end(this, new Killed({ signal }))
    else if (reaction === undefined && (this.program.ignores.has(signal) || harmless.has(signal))) return
    else if (this.isStopped) this.pending = [...this.pending.filter((other) => other !== signal), signal]
    else if (reaction !== undefined) this.begin(reaction)
    else this.group.end(this, new Killed({ signal }))
  }

  private begin(actions: Course): Track {
    const track: Track = { actions, startedAt: this.group.now, done: 0 }
    if (actions.length > 0) this.tracks.push(track)
    return track
  }

  private act(track: Track, action: Action): void {
    track.done += 1
    if (track.done === track.actions.length) this.tracks.splice(this.tracks.indexOf(track), 1)
    if (action._tag === "End") return this.group.end(this, action.status)
    if (this.program.holdsPipes) this.group.write(this, action.source, action.bytes)
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

  /** It reads on when it has done what it does about what it read before. */
  private get nextOfInput(): Step | undefined {
    const { group: { input }, program, reaction } = this
    if (program.input === undefined || this.sawEnd) return undefined
    if (reaction !== undefined && reaction.done < reaction.actions.length) return undefined
    if (this.lines.length === 0 && input.isEmpty && !input.isAtEnd) return undefined
    const reads = program.input
    return { at: input.changedAt, isEnding: false, act: () => this.read(reads) }
  }

  private read(reads: NonNullable<Program["input"]>): void {
    const { input } = this.group
    if (this.lines.length === 0) this.take(input.read())
    if (this.lines.length === 0 && input.isAtEnd) this.takeRest()
    const line = this.lines.shift()
    if (line === undefined && !input.isAtEnd) return
    this.sawEnd = line === undefined
    this.reaction = this.begin(line === undefined ? reads.onEnd : reads.onLine(line))
  }

  private take(chunks: ReadonlyArray<Uint8Array>): void {
    for (const bytes of chunks) this.rest += this.decoder.decode(bytes, { stream: true })
    const lines = this.rest.split("\n")
    this.rest = lines.pop() ?? ""
    this.lines = lines
  }

  /** What has no end of line is a line too. */
  private takeRest(): void {
    const rest = this.rest + this.decoder.decode()
    this.rest = ""
    if (rest !== "") this.lines = [rest]
  }
}

/** Whether one step comes before another, which would come first if it were as good. */
export const isBefore = (step: Omit<Step, "act">, other: Omit<Step, "act"> | undefined): boolean =>
  other === undefined || step.at < other.at || step.at === other.at && other.isEnding && !step.isEnding

/**
 * Signals that by default do nothing to a job: the last three would stop it, but the kernel does not let a terminal
 * stop a process group that, as a job's, has no parent in its session.
 */
const harmless: ReadonlySet<Signal> = new Set<Signal>([
  "SIGCHLD",
  "SIGCONT",
  "SIGURG",
  "SIGWINCH",
  "SIGTSTP",
  "SIGTTIN",
  "SIGTTOU"
])

/** Two signals have two names each; the operating system reports one of them. */
export const canonical = (signal: Signal): Signal =>
  signal === "SIGIOT" ? "SIGABRT" : signal === "SIGPOLL" ? "SIGIO" : signal
