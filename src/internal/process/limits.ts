/**
 * The limits of a job as steps that its process takes before it becomes the program.
 */
import * as Duration from "effect/Duration"
import * as Fs from "node:fs"
import { setPriority } from "node:os"
import { InvalidJobSpec } from "../../JobError.ts"
import type { Limits } from "../../JobSpec.ts"
import type { Step } from "./prologue.ts"

/** A shell needs some descriptors for itself. */
const fewFiles = 16

/** Memory comes last, of which a shell needs some for the other steps. */
export const steps = ({
  coreSize,
  cpuTime,
  fileSize,
  memory,
  niceness,
  openFiles,
  processes
}: Limits): ReadonlyArray<Step> => [
  ...step(niceness, (n) => ({ apply: (pid) => setPriority(pid, n), failure: () => invalid("niceness", unprivileged) })),
  ...step(cpuTime, (time) => ({ command: limitCpu(time), failure: tooHigh("cpuTime", "cpu time") })),
  ...step(coreSize, (bytes) => ({
    command: limit("-c", Math.ceil(bytes / 512)),
    failure: tooHigh("coreSize", "core file size")
  })),
  ...step(fileSize, (bytes) => ({
    command: limit("-f", Math.ceil(bytes / 512)),
    failure: tooHigh("fileSize", "file size")
  })),
  // The option's name differs from shell to shell.
  ...step(processes, (n) => ({
    command: `{ ${limit("-p", n)} || { ${limit("-u", n)}; }; }`,
    failure: tooHigh("processes", "processes")
  })),
  ...step(openFiles, (n) => ({
    command: limit("-n", Math.max(n, fewFiles)),
    last: limit("-n", n),
    failure: tooHigh("openFiles", "open files")
  })),
  ...step(memory, (bytes) => ({
    command: limit("-v", Math.ceil(bytes / 1024)),
    failure: tooHigh("memory", "address space")
  }))
]

const step = <A>(limit: A | undefined, make: (limit: A) => Step): ReadonlyArray<Step> =>
  limit === undefined ? [] : [make(limit)]

/** Most shells set both limits at once; zsh sets the soft one, which the program could raise again. */
const limit = (option: string, value: number): string => `ulimit ${option} ${value} && ulimit -H ${option} ${value}`

/** SIGXCPU comes at the soft limit, SIGKILL at the hard one, which can be set unless it is as low as that already. */
const limitCpu = (time: Duration.Duration): string => {
  const seconds = Math.max(1, Math.ceil(Duration.toSeconds(time)))
  return Number.isFinite(seconds)
    ? `ulimit -S -t ${seconds} && { ulimit -H -t ${seconds + 1} || true; }`
    : "ulimit -t unlimited"
}

const unprivileged = "cannot be set here: this host's user may not"

const invalid = (name: keyof Limits, reason: string) => new InvalidJobSpec({ field: `limits.${name}`, reason })

const tooHigh = (name: keyof Limits, label: string) => () =>
  invalid(name, `cannot be set here, where the hard limit is ${hardLimit(label)}`)

const hardLimit = (label: string): string => {
  try {
    const limits = Fs.readFileSync("/proc/self/limits", "latin1")
    const [, limit, unit] = new RegExp(`^Max ${label} +\\S+ +(\\S+) +(\\S+)`, "m").exec(limits) ?? []
    return limit === undefined || unit === undefined ? "unknown" : `${limit} ${unit}`
  } catch {
    return "unknown"
  }
}
