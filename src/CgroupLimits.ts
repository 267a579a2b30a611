/**
 * Processes in control groups of their own, for Node on Linux where a cgroup (version 2) is delegated to us.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Cgroups from "./internal/process/cgroups.ts"
import * as Guardian from "./internal/process/guardian.ts"
import * as NodeProcesses from "./internal/process/nodeProcesses.ts"
import { JobConfig } from "./JobConfig.ts"
import type { CgroupError } from "./JobError.ts"
import { type Guarantee, ProcessSpawner } from "./ProcessSpawner.ts"

/**
 * Limits on what the processes of one job use together.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** The cgroup that is delegated to us, as a path below the mount point. Default: the one this process is in. */
  readonly directory?: string | undefined
  /** Memory in bytes (`memory.max`): a job that needs more loses a process to SIGKILL. Default: no limit. */
  readonly memory?: number | undefined
  /** CPUs, of which 0.5 is one for half of the time (`cpu.max`): a job that wants more waits. Default: no limit. */
  readonly cpuShare?: number | undefined
  /** Processes and threads (`pids.max`): a job that wants more cannot fork. Default: no limit. */
  readonly processes?: number | undefined
}

/**
 * As `NodeProcessSpawner.layer`, with each job in a cgroup of its own below the delegated one: signals reach also what has
 * left the process group, SIGKILL is that of the cgroup, which none can escape by forking, and a job is gone when its
 * cgroup is empty. `guarantee` is therefore `"tree"` as long as there is a guardian. No cgroup is left behind.
 *
 * A job's process moves there before it becomes the program, as it sets its `JobSpec.limits`: see there for what that
 * means for start errors. It takes Linux 5.14. Controllers that are not enabled yet for the cgroups within the delegated
 * one are enabled there, which the kernel refuses if processes live in it: have it delegated with a sub-cgroup for the
 * host (`DelegateSubgroup=` of systemd), and name it here.
 *
 * @example
 * import { CgroupLimits, JobCoordinator } from "effect-joblib"
 * import { Layer } from "effect"
 *
 * export const Jobs = JobCoordinator.layer.pipe(
 *   Layer.provide(CgroupLimits.layer({ directory: "/sys/fs/cgroup/ci", memory: 2 * 1024 ** 3, cpuShare: 1.5 }))
 * )
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<ProcessSpawner, CgroupError> =>
  Layer.scoped(
    ProcessSpawner,
    Effect.gen(function*() {
      const { guardian: wanted } = yield* JobConfig
      const cgroups = yield* Cgroups.make(options.directory, settings(options))
      const guardian = wanted === "on" ? yield* Guardian.makeFor(cgroups.path) : undefined
      const { spawn } = yield* NodeProcesses.make(guardian, cgroups)
      return {
        get guarantee(): Guarantee {
          return guardian?.isAlive === true ? "tree" : "leader"
        },
        spawn
      }
    })
  )

/** Microseconds: the kernel's own default for the time over which a share of CPUs is measured. */
const cpuPeriod = 100_000

const settings = ({ cpuShare, memory, processes }: Options): ReadonlyArray<Cgroups.Setting> => [
  ...setting("memory", memory, String),
  ...setting("cpu", cpuShare, (cpus) => `${Math.round(cpus * cpuPeriod)} ${cpuPeriod}`),
  ...setting("pids", processes, String)
]

const setting = (controller: string, limit: number | undefined, value: (limit: number) => string) =>
  limit === undefined ? [] : [{ controller, file: `${controller}.max`, value: value(limit) }]
