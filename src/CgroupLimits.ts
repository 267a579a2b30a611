/**
 * Jobs in control groups of their own, for Node on Linux where a cgroup (version 2) is delegated to the host.
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
 * Limits on what the processes of each job use together.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** The delegated cgroup, as a path in the file system. Default: the cgroup of this process. */
  readonly directory?: string | undefined
  /** Memory in bytes (`memory.max`). If a job needs more, one of its processes gets SIGKILL. Default: no limit. */
  readonly memory?: number | undefined
  /** CPUs (`cpu.max`): 0.5 is one CPU for half of the time. A job that wants more waits. Default: no limit. */
  readonly cpuShare?: number | undefined
  /** Processes and threads (`pids.max`). A job that wants more cannot fork. Default: no limit. */
  readonly processes?: number | undefined
}

/**
 * As `NodeProcessSpawner.layer`, with each job in a cgroup of its own below the delegated one. Signals also reach
 * processes that have left the process group. SIGKILL is that of the cgroup, which no process can escape by forking. A
 * job is gone when its cgroup is empty. So `guarantee` is `"tree"` as long as there is a guardian. No cgroup is left
 * behind.
 *
 * A job's leader moves there before it becomes the program. This has the same effect on start errors as
 * `JobSpec.limits`. Linux 5.14 or newer is needed. The layer enables the controllers that it needs for the cgroups
 * within the delegated one. The kernel refuses that if processes live in the delegated cgroup: have it delegated with a
 * sub-cgroup for the host (`DelegateSubgroup=` of systemd), and name it as `directory`.
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
