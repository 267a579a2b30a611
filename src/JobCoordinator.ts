/**
 * Runs operating-system processes as jobs.
 *
 * @since 0.1.0
 */
import * as Command from "@effect/platform/Command"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Sink from "effect/Sink"
import * as Stream from "effect/Stream"
import * as Coordinator from "./internal/coordinator/coordinator.ts"
import * as Subscription from "./internal/output/subscription.ts"
import * as Durations from "./internal/time/duration.ts"
import * as Input from "./internal/worker/input.ts"
import { infoOf } from "./internal/worker/jobInfo.ts"
import type {
  CoordinatorStopped,
  EventsMissed,
  InputClosed,
  InvalidJobSpec,
  JobAlreadyEnded,
  JobLimitReached,
  JobNotFound,
  JobStartError,
  JobStillRunning,
  OutputEvicted,
  OutputStoreError,
  SubscriberLimitReached
} from "./JobError.ts"
import type { JobEvent } from "./JobEvent.ts"
import type { JobId } from "./JobId.ts"
import type { JobInfo } from "./JobInfo.ts"
import * as JobSpec from "./JobSpec.ts"
import { type Ended, type JobStatus, Signal } from "./JobStatus.ts"
import { type Options, type OutputChunk, OutputSource, type SourceOptions } from "./Output.ts"
import { layerMemory, type OutputStore } from "./OutputStore.ts"
import { type Guarantee, ProcessSpawner } from "./ProcessSpawner.ts"

/**
 * How to stop a job; what is absent is as its spec says, or else as `JobConfig.stop` says.
 *
 * @since 0.1.0
 * @category models
 */
export interface StopOptions {
  /** Sent first, to every process of the job's group. SIGKILL stops it at once. */
  readonly signal?: Signal | undefined
  /** How long the job has before it gets SIGKILL. */
  readonly gracePeriod?: Duration.DurationInput | undefined
}

/**
 * Which jobs to list. A job is listed if it meets everything that is given.
 *
 * @since 0.1.0
 * @category models
 */
export interface ListFilter {
  /** Jobs of this status. */
  readonly status?: JobStatus["_tag"] | undefined
  /** Jobs whose spec has all of these labels. */
  readonly labels?: Readonly<Record<string, string>> | undefined
}

/**
 * What can go wrong with a subscription to output.
 *
 * @since 0.1.0
 * @category errors
 */
export type OutputError =
  | JobNotFound
  | SubscriberLimitReached
  | OutputEvicted
  | OutputStoreError
  | CoordinatorStopped

/**
 * What a coordinator does. Any number of fibers may call it at once. When its layer closes, all jobs are stopped, and
 * calls that cannot be answered any more fail with `CoordinatorStopped`.
 *
 * @since 0.2.0
 * @category models
 */
export interface Service {
  /** What a stop, a close and the host's death surely end; see `ProcessSpawner.Guarantee`. */
  readonly guarantee: Guarantee
  /**
   * Starts a job. The id comes back once the operating system has accepted the process: a program that starts and then
   * fails is not an error of `start`. A caller that is interrupted leaves no process behind.
   */
  readonly start: (
    job: JobSpec.JobSpec | Command.Command
  ) => Effect.Effect<JobId, JobStartError | InvalidJobSpec | JobLimitReached | CoordinatorStopped>
  /**
   * Stops a job and waits for its end: the signal to its whole process group, then, a grace period later, SIGKILL. Of
   * several calls each can only make the stop harsher. It goes on if its caller is interrupted.
   */
  readonly stop: (
    id: JobId,
    options?: StopOptions
  ) => Effect.Effect<Ended, JobNotFound | JobAlreadyEnded | CoordinatorStopped>
  /** What the job is doing. It shows `Exited` or `Killed` as soon as the job's first process has been reaped. */
  readonly status: (id: JobId) => Effect.Effect<JobStatus, JobNotFound | CoordinatorStopped>
  /** Waits for the job's end: nothing of its process group is left alive, and its output is complete. */
  readonly wait: (id: JobId) => Effect.Effect<Ended, JobNotFound | CoordinatorStopped>
  /** All that is known of the job. */
  readonly info: (id: JobId) => Effect.Effect<JobInfo, JobNotFound | CoordinatorStopped>
  /** The jobs of the table, in the order of their starts. */
  readonly list: (filter?: ListFilter) => Effect.Effect<ReadonlyArray<JobInfo>, CoordinatorStopped>
  /** Removes an ended job and its output from the table. Who is reading its output reads on to the end. */
  readonly remove: (id: JobId) => Effect.Effect<void, JobNotFound | JobStillRunning | CoordinatorStopped>
  /** The job's output from its first byte, and on until the job has ended and everything was delivered. */
  readonly output: (id: JobId, options?: Options) => Stream.Stream<OutputChunk, OutputError>
  /**
   * The same without a `Stream`, for those who have thousands: each run of the inner effect gives what came since the
   * last, and fails with `None` at the end.
   */
  readonly pull: (
    id: JobId,
    options?: Options
  ) => Effect.Effect<
    Effect.Effect<ReadonlyArray<OutputChunk>, Option.Option<OutputError>>,
    OutputError,
    Scope.Scope
  >
  /** The bytes of standard output. */
  readonly stdout: (id: JobId, options?: SourceOptions) => Stream.Stream<Uint8Array, OutputError>
  /** The bytes of standard error. */
  readonly stderr: (id: JobId, options?: SourceOptions) => Stream.Stream<Uint8Array, OutputError>
  /**
   * Writes to the standard input of a job whose spec says `stdin: "pipe"`, as fast as the job reads. The input is closed
   * when the stream that runs into the sink ends; if that stream fails or is interrupted, the input stays open. Several
   * writers interleave by chunk.
   */
  readonly input: (
    id: JobId
  ) => Sink.Sink<void, Uint8Array, never, JobNotFound | JobAlreadyEnded | InputClosed | CoordinatorStopped>
  /**
   * First a `JobStarted` for each job of the table, as it is now, in the order of their starts; then every change. A
   * listener that is more than 16,384 events behind fails with `EventsMissed`; the stream ends with the coordinator.
   */
  readonly events: Stream.Stream<JobEvent, EventsMissed | CoordinatorStopped>
}

/**
 * The tag of the coordinator: `yield* JobCoordinator.JobCoordinator` gives its `Service`.
 *
 * @since 0.1.0
 * @category models
 */
export class JobCoordinator extends Context.Tag("joblib/JobCoordinator")<JobCoordinator, Service>() {}

const make = Effect.gen(function*() {
  const coordinator = yield* Coordinator.make
  const spawner = yield* ProcessSpawner

  const start = (spec: JobSpec.JobSpec) => Effect.flatMap(JobSpec.validate(spec), (valid) => coordinator.start(valid))

  const subscribe = (id: JobId, options?: Options) =>
    Effect.map(coordinator.find(id), (worker) => new Subscription.Subscription(worker.broadcaster, options ?? {}))

  const output = (id: JobId, options?: Options): Stream.Stream<OutputChunk, OutputError> =>
    Stream.fromChannel(Subscription.channel(subscribe(id, options)))

  const bytesOf = (source: OutputSource) => (id: JobId, options?: SourceOptions) =>
    Stream.mapChunks(output(id, { ...options, source }), Chunk.map((chunk) => chunk.bytes))

  return JobCoordinator.of({
    get guarantee() {
      return spawner.guarantee
    },
    start: (job) => Command.isCommand(job) ? Effect.flatMap(JobSpec.fromCommand(job), start) : start(job),
    stop: (id, options) =>
      Effect.flatMap(
        coordinator.find(id),
        (worker) => Effect.zipRight(worker.stop(stopOptions(options)), worker.ended)
      ),
    status: (id) => Effect.map(coordinator.find(id), (worker) => worker.state.status),
    wait: (id) => Effect.flatMap(coordinator.find(id), (worker) => worker.ended),
    info: (id) => Effect.map(coordinator.find(id), infoOf),
    list: (filter) => coordinator.list(filter ?? {}),
    remove: (id) => coordinator.remove(id),
    output,
    pull: (id, options) => Effect.map(Subscription.pull(subscribe(id, options)), Effect.map(Chunk.toReadonlyArray)),
    stdout: bytesOf("stdout"),
    stderr: bytesOf("stderr"),
    input: (id) => Sink.unwrap(Effect.map(coordinator.find(id), Input.sink)),
    events: Stream.unwrapScoped(
      Effect.map(coordinator.listen, (listener) => Stream.repeatEffectChunkOption(listener.pull))
    )
  })
})

const isSignal = Schema.is(Signal)

/** What is no signal or no duration counts as absent: `stop` must stop. */
const stopOptions = (options?: StopOptions) => ({
  signal: isSignal(options?.signal) ? options.signal : undefined,
  gracePeriod: Option.getOrUndefined(Durations.decode(options?.gracePeriod))
})

/**
 * A coordinator whose output is kept where an `OutputStore` says. When the layer closes, all jobs are stopped together,
 * within the longest of their grace periods.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWithStore: Layer.Layer<JobCoordinator, never, ProcessSpawner | OutputStore> = Layer.scoped(
  JobCoordinator,
  make
)

/**
 * A coordinator that keeps output in memory, as much of it as `JobConfig.output` says. When the layer closes, all jobs
 * are stopped together, within the longest of their grace periods.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<JobCoordinator, never, ProcessSpawner> = Layer.provide(layerWithStore, layerMemory)
