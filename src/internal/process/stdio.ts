/**
 * Standard input, output and error of a job: what its process gets, and what the host keeps.
 */
import type { ChildProcess } from "node:child_process"
import { Socket } from "node:net"
import type { Readable, Writable } from "node:stream"
import { InvalidJobSpec } from "../../JobError.ts"
import type { JobSpec } from "../../JobSpec.ts"
import * as Pipes from "./pipes.ts"
import type { Step } from "./prologue.ts"

/** The host's ends. */
export interface Streams {
  readonly stdin: Writable | null
  readonly stdout: Readable | null
  readonly stderr: Readable | null
}

export interface Stdio {
  /** What a `spawn` of Node is told of the process's ends. */
  readonly child: ReadonlyArray<"ignore" | "pipe" | number>
  /** What the process itself has to do. */
  readonly steps: ReadonlyArray<Step>
  /** The host's ends, which belong to the caller, once there is a process. */
  readonly connect: (child: ChildProcess) => Streams
  /** Closes all in this process that is not connected. */
  readonly closeUnused: () => void
}

/** Sockets that Node makes, none of which it gives to a process twice. */
export const sockets = (spec: JobSpec): Stdio => ({
  child: [spec.stdin, "pipe", spec.stderr === "stdout" ? "ignore" : "pipe"],
  steps: spec.stderr === "stdout" ? [joinErrors] : [],
  connect: (child) => child,
  closeUnused: () => {}
})

const joinErrors: Step = {
  last: "exec 2>&1",
  failure: () => new InvalidJobSpec({ field: "stderr", reason: "cannot be \"stdout\" here" })
}

/** Pipes, or `undefined` if there are none. Throws what the system does when it is out of descriptors. */
export const pipes = (spec: JobSpec, from: Pipes.Pipes): Stdio | undefined => {
  const hasInput = spec.stdin === "pipe"
  const hasErrors = spec.stderr !== "stdout"
  const taken = from.take(1 + Number(hasErrors) + Number(hasInput))
  const [stdout, ...others] = taken ?? []
  if (taken === undefined || stdout === undefined) return undefined
  const stderr = hasErrors ? others.shift() : undefined
  const [stdin] = others
  const unused = new Set(taken.flatMap(({ read, write }) => [read, write]))
  const use = (descriptor: number, readable: boolean) => {
    unused.delete(descriptor)
    return new Socket({ fd: descriptor, readable, writable: !readable })
  }
  return {
    child: [stdin?.read ?? "ignore", stdout.write, (stderr ?? stdout).write],
    steps: [],
    connect: () => ({
      stdin: stdin === undefined ? null : use(stdin.write, false),
      stdout: use(stdout.read, true),
      stderr: stderr === undefined ? null : use(stderr.read, true)
    }),
    closeUnused: () => unused.forEach(Pipes.closeEnd)
  }
}
