/**
 * The cgroups of all jobs of a spawner, within one of its own.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { execFile } from "node:child_process"
import { randomUUID } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { CgroupError, type CgroupErrorReason, JobStartError } from "../../JobError.ts"
import type { JobSpec } from "../../JobSpec.ts"
import { Cgroup } from "./cgroup.ts"
import { nameOf } from "./programName.ts"
import type { Step } from "./prologue.ts"
import * as StartError from "./startError.ts"

/** What is written to a file of each job's cgroup, and the controller that has to be there for that. */
export interface Setting {
  readonly controller: string
  readonly file: string
  readonly value: string
}

export interface Cgroups {
  /** The path of the cgroup that holds those of the jobs. */
  readonly path: string
  /** A cgroup for a job, with all settings. Throws what the file system does. */
  readonly create: () => Cgroup
}

/** In the given directory, or in the cgroup of this process. All that is in them is killed when the scope closes. */
export const make = (
  directory: string | undefined,
  settings: ReadonlyArray<Setting>
): Effect.Effect<Cgroups, CgroupError, Scope.Scope> =>
  Effect.gen(function*() {
    const path = directory === undefined ? ownPath() : Path.resolve(directory)
    const fail = (reason: CgroupErrorReason, detail: string) =>
      new CgroupError({ reason, directory: path ?? "/proc/self/cgroup", detail })
    const attempt = <A>(reason: CgroupErrorReason, evaluate: () => A) =>
      Effect.try({ try: evaluate, catch: (cause) => fail(reason, String(cause)) })

    if (path === undefined || !Fs.existsSync(`${path}/cgroup.controllers`)) {
      return yield* fail("NotFound", "there is no cgroup.controllers")
    }
    const delegated = new Cgroup(path)
    const available = delegated.words("cgroup.controllers")
    const controllers = settings.map(({ controller }) => controller)
    const missing = controllers.filter((controller) => !available.includes(controller))
    if (missing.length > 0) {
      return yield* fail("ControllerUnavailable", missing.join(", "))
    }

    yield* attempt("NotDelegated", () => enable(delegated, controllers))
    const own = yield* Effect.acquireRelease(
      attempt("NotDelegated", () => delegated.create(`joblib-${randomUUID()}`)),
      destroy
    )
    yield* attempt("NotDelegated", () => enable(own, controllers))
    yield* attempt("Unsupported", () => own.write("cgroup.kill", "1"))

    let created = 0
    const create = () => {
      const cgroup = own.create(`${created++}`)
      try {
        for (const { file, value } of settings) cgroup.write(file, value)
      } catch (cause) {
        cgroup.remove()
        throw cause
      }
      return cgroup
    }

    const trial = yield* attempt("InvalidLimit", create)
    yield* Effect.mapError(tryJoin(trial), (cause) => fail("NotDelegated", String(cause)))
    trial.remove()
    return { path: own.path, create }
  })

/** The step by which the process of a job moves into its cgroup. */
export const join = (cgroup: Cgroup, spec: JobSpec): Step => ({
  command: joinCommand(cgroup),
  failure: () => startError(spec, new Error(`Its process cannot move into ${cgroup.path}`))
})

/** The error of a job that cannot have a cgroup. Its cause is about the cgroup alone. */
export const startError = (spec: JobSpec, cause: unknown): JobStartError => {
  const reason = StartError.reasonOf(cause) === "ResourceExhausted" ? "ResourceExhausted" : "Unknown"
  return new JobStartError({ reason, command: nameOf(spec), cause })
}

const joinCommand = ({ path }: Cgroup): string => `echo 0 >'${path.replaceAll("'", "'\\''")}/cgroup.procs'`

/** Where this process is, if that can be told. */
const ownPath = (): string | undefined => {
  try {
    const [, path] = /^0::(\/.*)$/m.exec(Fs.readFileSync("/proc/self/cgroup", "utf8")) ?? []
    const [, root, mountPoint] = /^(?:\S+ ){3}(\S+) (\S+) .* - cgroup2 /m.exec(
      Fs.readFileSync("/proc/self/mountinfo", "utf8")
    ) ?? []
    if (path === undefined || root === undefined || mountPoint === undefined) return undefined
    const below = root === "/" ? path : path.startsWith(root) ? path.slice(root.length) : undefined
    return below === undefined ? undefined : `${mountPoint}${below === "/" ? "" : below}`
  } catch {
    return undefined
  }
}

/** Lets the cgroups in this one have these controllers. */
const enable = (cgroup: Cgroup, controllers: ReadonlyArray<string>) => {
  const enabled = cgroup.words("cgroup.subtree_control")
  const lacking = controllers.filter((controller) => !enabled.includes(controller))
  if (lacking.length > 0) cgroup.write("cgroup.subtree_control", lacking.map((name) => `+${name}`).join(" "))
}

/** Lets a shell move into a cgroup, and end there. */
const tryJoin = (cgroup: Cgroup): Effect.Effect<void, unknown> =>
  Effect.async((resume) => {
    try {
      execFile("/bin/sh", ["-c", joinCommand(cgroup)], (error) =>
        resume(error === null ? Effect.void : Effect.fail(error)))
    } catch (error) {
      resume(Effect.fail(error))
    }
  })

const destroy = (cgroup: Cgroup): Effect.Effect<void> =>
  Effect.suspend(() => {
    cgroup.kill()
    return cgroup.remove() ? Effect.void : Effect.fail("busy")
  }).pipe(
    Effect.retry({ schedule: Schedule.spaced("10 millis"), times: 100 }),
    Effect.catchAll(() => Effect.logWarning(`The cgroup ${cgroup.path} is left behind`))
  )
