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
import * as Either from "effect/Either"
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
import { JobFailed, type OutputTooLarge, type StartError } from "./JobError.ts"
import type { JobEvent } from "./JobEvent.ts"
import type { JobId } from "./JobId.ts"
import type { JobInfo } from "./JobInfo.ts"
import * as JobSpec from "./JobSpec.ts"
import { type Ended, isSuccess, type JobStatus, Signal } from "./JobStatus.ts"
import { collect, type Encoding, type Options, type OutputChunk, OutputSource, type SourceOptions } from "./Output.ts"
import { layerMemory, type OutputStore } from "./OutputStore.ts"
import { type Guarantee, ProcessSpawner } from "./ProcessSpawner.ts"

/**
 * How to stop a job. What is absent comes from the job's spec, or else from `JobConfig.stop`.
 *
 * @since 0.1.0
 * @category models
 */
export interface StopOptions {
  /** The first signal, to every process of the job's process group. SIGKILL ends the job at once. */
  readonly signal?: Signal | undefined
  /** The grace period: how long the job has before it gets SIGKILL. */
  readonly gracePeriod?: Duration.DurationInput | undefined
}

/**
 * Which jobs to list or to stop: those that meet everything that is given.
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
 * Every way in which reading output can fail.
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
 * What a coordinator does. Any number of fibers may call it at once. When its layer closes, all jobs are stopped. Calls
 * that wait for a job get its true end, and every other call fails with `CoordinatorStopped`.
 *
 * @since 0.2.0
 * @category models
 */
export interface Service {
  /** What a stop, a close and the host's death surely end; see `ProcessSpawner.Guarantee`. */
  readonly guarantee: Guarantee
  /**
   * Starts a job. The id comes back once the operating system has accepted the process. A program that starts and then
   * fails is not an error of `start`. A `start` that is interrupted leaves no process behind.
   */
  readonly start: (
    job: JobSpec.JobSpec | Command.Command
  ) => Effect.Effect<JobId, JobStartError | InvalidJobSpec | JobLimitReached | CoordinatorStopped>
  /**
   * Stops a job and waits for its end. Its whole process group gets the signal, and SIGKILL when the grace period is
   * over. A job has one stop: each further call can only make it harsher. The stop goes on if its caller is
   * interrupted.
   */
  readonly stop: (
    id: JobId,
    options?: StopOptions
  ) => Effect.Effect<Ended, JobNotFound | JobAlreadyEnded | CoordinatorStopped>
  /** What the job is doing. It is `Exited` or `Killed` as soon as the leader of its process group has been reaped. */
  readonly status: (id: JobId) => Effect.Effect<JobStatus, JobNotFound | CoordinatorStopped>
  /**
   * Waits for the job's end: nothing of its process group is alive, and its output is complete. A store of output has
   * all of it then, unless it has failed.
   */
  readonly wait: (id: JobId) => Effect.Effect<Ended, JobNotFound | CoordinatorStopped>
  /** All that is known of the job. */
  readonly info: (id: JobId) => Effect.Effect<JobInfo, JobNotFound | CoordinatorStopped>
  /** The jobs of the table, in the order of their starts. */
  readonly list: (filter?: ListFilter) => Effect.Effect<ReadonlyArray<JobInfo>, CoordinatorStopped>
  /** Removes an ended job and its output from the table. A reader of its output reads on to the end. */
  readonly remove: (id: JobId) => Effect.Effect<void, JobNotFound | JobStillRunning | CoordinatorStopped>
  /**
   * The job's output. Unless `options` say otherwise, it begins with the first byte, and ends when the job has ended
   * and everything has been delivered.
   */
  readonly output: (id: JobId, options?: Options) => Stream.Stream<OutputChunk, OutputError>
  /**
   * The same without a `Stream`, which costs less where there are thousands of readers. Each run of the inner effect
   * gives what has come since the last, 256 KiB at most, and fails with `None` at the end.
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
   * A sink for the standard input of a job whose spec says `stdin: "pipe"`. It takes bytes as fast as the job reads
   * them. The input is closed when the stream that runs into the sink ends. If that stream fails or is interrupted, the
   * input stays open, so a stream that ends with a failure writes without closing. Several writers interleave by chunk.
   */
  readonly input: (
    id: JobId
  ) => Sink.Sink<void, Uint8Array, never, JobNotFound | JobAlreadyEnded | InputClosed | CoordinatorStopped>
  /**
   * First a `JobStarted` for each job of the table, as it is now, in the order of their starts. Then every change. A
   * reader that is more than 16,384 events behind fails with `EventsMissed`. The stream ends with the coordinator.
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
 * A coordinator that keeps output in an `OutputStore`. When the layer closes, all jobs are stopped together. That takes
 * the longest of their grace periods, `drainTimeout` and a second at most.
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
 * are stopped together. That takes the longest of their grace periods, `drainTimeout` and a second at most.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<JobCoordinator, never, ProcessSpawner> = Layer.provide(layerWithStore, layerMemory)

/**
 * How much output `run` takes, and how it decodes it.
 *
 * @since 0.2.0
 * @category models
 */
export interface RunOptions {
  /** The most bytes of output there may be, both sources together. Default: 16 MiB. */
  readonly maxBytes?: number | undefined
  /** The encoding of the output. Default: `"utf-8"`. */
  readonly encoding?: Encoding | undefined
}

/**
 * What a job that succeeded leaves behind.
 *
 * @since 0.2.0
 * @category models
 */
export interface RunResult {
  /** The job, which stays in the table for its retention. */
  readonly id: JobId
  /** `Exited` with code 0. */
  readonly status: Ended
  /** Everything that it wrote to standard output. */
  readonly stdout: string
  /** Everything that it wrote to standard error. */
  readonly stderr: string
}

/**
 * Runs a job to its end: starts it, collects its output, and waits. No job is left running: if `run` is interrupted, or
 * the output cannot be read, the job is stopped as its spec says.
 *
 * - `JobFailed`: it did not exit with code 0. The error has its status, why it was stopped, and the end of its standard
 *   error. A caller that accepts other ends uses `start`, `Output.collect` and `wait`.
 * - `OutputTooLarge`: it wrote more than `maxBytes`.
 * - `OutputEvicted`: it wrote more than the log keeps before `run` began to read. After that the job waits for `run`,
 *   however little the log keeps.
 * - `JobNotFound`: it was removed as soon as it had ended, because retention keeps nothing.
 * - `CoordinatorStopped`: the coordinator was closed before the job had ended well.
 *
 * If the spec says `stdin: "pipe"`, the input is closed at once.
 *
 * @example
 * import { Effect, Schedule } from "effect"
 * import { JobCoordinator, JobSpec } from "effect-joblib"
 *
 * const fetch = JobSpec.make({ command: "git", args: ["fetch"], timeout: "1 minute" })
 *
 * export const fetched = JobCoordinator.run(fetch).pipe(
 *   Effect.retry({ times: 3, schedule: Schedule.exponential("1 second"), while: (error) => error._tag === "JobFailed" }),
 *   Effect.map(({ stdout }) => stdout)
 * )
 *
 * @since 0.2.0
 * @category combinators
 */
export const run = (
  job: JobSpec.JobSpec | Command.Command,
  options?: RunOptions
): Effect.Effect<RunResult, StartError | JobFailed | OutputTooLarge | OutputError, JobCoordinator> =>
  Effect.flatMap(
    JobCoordinator,
    (jobs) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(restore(jobs.start(job)), (id) =>
          Effect.all([
            collect(options)(jobs.output(id, { whenBehind: "block" })),
            jobs.wait(id),
            // Nobody else knows this job, so nobody else would close it.
            Effect.ignore(Stream.run(Stream.empty, jobs.input(id)))
          ], { concurrency: "unbounded" }).pipe(
            Effect.flatMap(([{ stderr, stdout }, status]) =>
              isSuccess(status)
                ? Effect.succeed({ id, status, stdout, stderr })
                : Effect.flatMap(whyStopped(jobs, id), (stopReason) =>
                  new JobFailed({ id, status, stopReason, stderr: lastBytes(stderr, 4096) }))
            ),
            restore,
            Effect.onError(() =>
              Effect.ignore(jobs.stop(id))
            )
          ))
      )
  )

/** Nobody knows any more of a job that was removed as soon as it had ended. */
const whyStopped = (jobs: JobCoordinator["Type"], id: JobId) =>
  jobs.info(id).pipe(
    Effect.map((info) => info.stopReason),
    Effect.catchTag("JobNotFound", () => Effect.succeedNone)
  )

/** The end of a text, so many bytes of UTF-8 at most. */
const lastBytes = (text: string, count: number): string => {
  const bytes = new TextEncoder().encode(text.slice(-count))
  let start = Math.max(0, bytes.length - count)
  while (start > 0 && ((bytes[start] ?? 0) & 0xC0) === 0x80) start++
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(start))
}

/**
 * Starts a job, and stops it when the scope closes. Closing the scope waits for the job's end. It is no error if the
 * job has ended before, or if the coordinator has been closed.
 *
 * @example
 * import { Effect, Stream } from "effect"
 * import { JobCoordinator, JobSpec, Output } from "effect-joblib"
 *
 * export const withServer = <A, E, R>(use: Effect.Effect<A, E, R>) =>
 *   Effect.gen(function*() {
 *     const jobs = yield* JobCoordinator.JobCoordinator
 *     const server = yield* JobCoordinator.startScoped(JobSpec.make({ command: "npm", args: ["start"] }))
 *     yield* jobs.output(server).pipe(
 *       Output.lines(),
 *       Stream.takeUntil(({ line }) => line.startsWith("Listening")),
 *       Stream.runDrain
 *     )
 *     return yield* use
 *   }).pipe(Effect.scoped)
 *
 * @since 0.2.0
 * @category combinators
 */
export const startScoped = (
  job: JobSpec.JobSpec | Command.Command,
  options?: StopOptions
): Effect.Effect<JobId, StartError, JobCoordinator | Scope.Scope> =>
  Effect.flatMap(JobCoordinator, (jobs) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.tap(
        restore(jobs.start(job)),
        (id) => Effect.addFinalizer(() => Effect.ignore(jobs.stop(id, options)))
      )
    ))

/**
 * A job that was stopped, and how it ended.
 *
 * @since 0.2.0
 * @category models
 */
export interface Stopped {
  /** The job. */
  readonly id: JobId
  /** How it ended. */
  readonly status: Ended
}

/**
 * Stops all jobs that match the filter and have not ended, together, and waits for their ends. It gives these jobs in
 * the order of their starts, without those that ended before they could be stopped. Jobs that are started meanwhile are
 * left alone. Stops that have begun go on if the caller is interrupted.
 *
 * @since 0.2.0
 * @category combinators
 */
export const stopAll = (
  filter?: ListFilter,
  options?: StopOptions
): Effect.Effect<ReadonlyArray<Stopped>, CoordinatorStopped, JobCoordinator> =>
  Effect.gen(function*() {
    const jobs = yield* JobCoordinator
    const running = (yield* jobs.list(filter)).filter((info) => Option.isNone(info.endedAt))
    const stops = yield* Effect.forEach(running, ({ id }) =>
      jobs.stop(id, options).pipe(
        Effect.map((status) => [{ id, status }]),
        Effect.catchTags({ JobAlreadyEnded: () => Effect.succeed([]), JobNotFound: () => Effect.succeed([]) }),
        // The others are stopped all the same.
        Effect.either
      ), { concurrency: "unbounded" })
    return (yield* Either.all(stops)).flat()
  })
