/**
 * A process of `node:child_process` as the actors see it.
 */
import * as Effect from "effect/Effect"
import type { Readable, Writable } from "node:stream"
import type { Signal } from "../../JobStatus.ts"
import type { OutputSource } from "../../Output.ts"
import type { Process, ProcessListener } from "../../ProcessSpawner.ts"
import { nextTurn } from "../time/nextTurn.ts"
import * as ExitStatus from "./exitStatus.ts"
import type { Group } from "./processGroup.ts"
import type { Streams } from "./stdio.ts"

/** What tells of the exit of a process, and has reaped it then. */
export interface Reaper {
  on(event: "exit", listener: (code: number | null, signal: NodeJS.Signals | null) => void): unknown
}

export class NodeProcess implements Process {
  readonly group: Group
  private readonly streams: Streams
  private readonly listener: ProcessListener
  private held = 0

  constructor(reaper: Reaper, streams: Streams, group: Group, listener: ProcessListener) {
    this.streams = streams
    this.group = group
    this.listener = listener
    reaper.on("exit", (code, signal) => this.onExit(code, signal))
    // Any number of writers may wait for room.
    streams.stdin?.on("error", ignore).setMaxListeners(0)
    this.read("stdout", streams.stdout)
    this.read("stderr", streams.stderr)
  }

  get pid(): number {
    return this.group.id
  }

  signal(signal: Signal): Effect.Effect<void> {
    return Effect.sync(() => this.group.signal(signal))
  }

  get isGone(): Effect.Effect<boolean> {
    return this.group.isGone
  }

  get awaitGone(): Effect.Effect<void> {
    return this.group.awaitGone
  }

  get resumeOutput(): Effect.Effect<void> {
    return Effect.sync(() => {
      if (this.held === 0) return
      this.held = 0
      this.streams.stdout?.resume()
      this.streams.stderr?.resume()
    })
  }

  /** What the kernel holds already is read first: a busy event loop must not lose it to a timer. */
  get cutOutput(): Effect.Effect<boolean> {
    return Effect.zipRight(Effect.zipRight(nextTurn, nextTurn), Effect.sync(() => this.closeOutput()))
  }

  /** Waits for room first: what Node was given is sent, even if its caller leaves. */
  writeInput(bytes: Uint8Array): Effect.Effect<boolean> {
    return Effect.async((resume) => {
      const { stdin } = this.streams
      if (stdin === null || !stdin.writable) return resume(Effect.succeed(false))
      if (stdin.writableNeedDrain) return whenDrained(stdin, () => resume(this.writeInput(bytes)))
      stdin.write(bytes, (error) => resume(Effect.succeed(error === null || error === undefined)))
    })
  }

  get closeInput(): Effect.Effect<void> {
    return Effect.sync(() => {
      this.streams.stdin?.end()
    })
  }

  /** Leaves nothing open and nobody alive. */
  release(): void {
    this.group.signal("SIGKILL")
    this.streams.stdin?.destroy()
    this.closeOutput()
  }

  /** Whether more could have come. */
  private closeOutput(): boolean {
    const wasOpen = this.outputIsOpen
    this.streams.stdout?.destroy()
    this.streams.stderr?.destroy()
    return wasOpen
  }

  private get outputIsOpen(): boolean {
    return isOpen(this.streams.stdout) || isOpen(this.streams.stderr)
  }

  private read(source: OutputSource, stream: Readable | null): void {
    if (stream === null) return this.listener.onOutputEnd(source)
    const bit = source === "stdout" ? 1 : 2
    let staysPaused = false
    stream.on("data", (bytes: Buffer) => {
      if (this.listener.onOutput(source, bytes)) return
      this.held |= bit
      stream.pause()
      if (staysPaused) return
      staysPaused = true
      // Node itself resumes both streams when the leader exits.
      stream.on("resume", () => {
        if ((this.held & bit) !== 0) stream.pause()
      })
    })
    stream.on("end", () => this.listener.onOutputEnd(source))
    // After an error or a cut.
    stream.on("close", () => {
      if (!stream.readableEnded) this.listener.onOutputEnd(source)
    })
    stream.on("error", ignore)
  }

  private onExit(code: number | null, signal: NodeJS.Signals | null): void {
    this.group.leaderHasExited()
    const status = ExitStatus.fromNode(code, signal)
    const isGone = this.group.look()
    const tell = () => this.listener.onExit(status, isGone)
    // Most pipes end within two turns of the event loop; told after that, the exit needs no timer for them.
    if (isGone && this.outputIsOpen) setImmediate(() => setImmediate(tell))
    else tell()
  }
}

/** Calls once there is room again, or the stream is closed; the effect takes that back. */
const whenDrained = (stream: Writable, call: () => void): Effect.Effect<void> => {
  const done = () => {
    forget()
    call()
  }
  const forget = () => {
    stream.off("drain", done)
    stream.off("close", done)
  }
  stream.on("drain", done)
  stream.on("close", done)
  return Effect.sync(forget)
}

const isOpen = (stream: Readable | null): boolean => stream !== null && !stream.readableEnded && !stream.destroyed

const ignore = () => {}
