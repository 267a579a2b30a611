/**
 * Every setting of a coordinator, with its default.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Durations from "./internal/time/duration.ts"
import { Signal } from "./JobStatus.ts"

/**
 * The settings of a coordinator.
 *
 * @since 0.1.0
 * @category models
 */
export interface Settings {
  /** How many requests fit in the mailbox of an actor. When it is full, callers wait. Default: 1024. */
  readonly mailboxCapacity: number
  /** How many jobs may run at once. Beyond that, `start` fails with `JobLimitReached`. Default: no limit. */
  readonly maxRunning: number
  /**
   * How many readers of output there may be over all jobs. More fail with `SubscriberLimitReached`. Default: 65,536.
   */
  readonly maxSubscribers: number
  /** How many readers of one job's output there may be. More fail with `SubscriberLimitReached`. Default: 4,096. */
  readonly maxSubscribersPerJob: number
  /** How a job is stopped if its spec does not say. Default: SIGTERM, and a grace period of 5 seconds. */
  readonly stop: {
    readonly signal: Signal
    readonly gracePeriod: Duration.Duration
  }
  /** How long to read on from a pipe that a process outside the job's process group still holds. Default: 1 second. */
  readonly drainTimeout: Duration.Duration
  /** How long ended jobs stay in the table, and how many at most. The oldest leave first. Default: 1 hour, 1000. */
  readonly retention: {
    readonly timeToLive: Duration.Duration
    readonly maxEnded: number
  }
  /**
   * Bytes of output kept in memory for one job, and over all jobs. The oldest leave first, except those that a reader
   * with `whenBehind: "block"` has not had. What was read from a job last is always kept (64 KiB at most). What small
   * pieces cost in memory besides their bytes counts as well: in full over all jobs, and for one job as soon as it is
   * more than a quarter of its bound and 256 KiB. Default: 16 MiB, 256 MiB.
   */
  readonly output: {
    readonly maxBytesPerJob: number
    readonly maxBytes: number
  }
  /** Whether a helper process, the guardian, ends the jobs of a host that died. Default: `"on"`. */
  readonly guardian: "on" | "off"
}

/**
 * Some of the `Settings`. A time is any `Duration.DurationInput`, such as `"5 seconds"`.
 *
 * @since 0.1.0
 * @category models
 */
export interface PartialSettings {
  readonly mailboxCapacity?: number | undefined
  readonly maxRunning?: number | undefined
  readonly maxSubscribers?: number | undefined
  readonly maxSubscribersPerJob?: number | undefined
  readonly stop?: {
    readonly signal?: Signal | undefined
    readonly gracePeriod?: Duration.DurationInput | undefined
  } | undefined
  readonly drainTimeout?: Duration.DurationInput | undefined
  readonly retention?: {
    readonly timeToLive?: Duration.DurationInput | undefined
    readonly maxEnded?: number | undefined
  } | undefined
  readonly output?: {
    readonly maxBytesPerJob?: number | undefined
    readonly maxBytes?: number | undefined
  } | undefined
  readonly guardian?: "on" | "off" | undefined
}

/**
 * The default settings.
 *
 * @since 0.1.0
 * @category constructors
 */
export const defaults: Settings = {
  mailboxCapacity: 1024,
  maxRunning: Infinity,
  maxSubscribers: 65_536,
  maxSubscribersPerJob: 4_096,
  stop: { signal: "SIGTERM", gracePeriod: Duration.seconds(5) },
  drainTimeout: Duration.seconds(1),
  retention: { timeToLive: Duration.hours(1), maxEnded: 1000 },
  output: { maxBytesPerJob: 16 * 1024 * 1024, maxBytes: 256 * 1024 * 1024 },
  guardian: "on"
}

const isSignal = Schema.is(Signal)

const signalOr = (signal: unknown, otherwise: Signal): Signal => isSignal(signal) ? signal : otherwise

const durationOr = (input: unknown, otherwise: Duration.Duration): Duration.Duration =>
  Option.getOrElse(Durations.decode(input), () => otherwise)

const numberOr = (n: unknown, otherwise: number, least: number): number =>
  typeof n !== "number" || Number.isNaN(n) ? otherwise : Math.max(least, Math.floor(n))

/**
 * The settings, with defaults for what is absent or invalid: an unknown signal, `NaN`, a negative duration. Numbers are
 * rounded down, and a negative number counts as 0. A mailbox has room for at least one request.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (partial: PartialSettings): Settings => ({
  mailboxCapacity: numberOr(partial.mailboxCapacity, defaults.mailboxCapacity, 1),
  maxRunning: numberOr(partial.maxRunning, defaults.maxRunning, 0),
  maxSubscribers: numberOr(partial.maxSubscribers, defaults.maxSubscribers, 0),
  maxSubscribersPerJob: numberOr(partial.maxSubscribersPerJob, defaults.maxSubscribersPerJob, 0),
  stop: {
    signal: signalOr(partial.stop?.signal, defaults.stop.signal),
    gracePeriod: durationOr(partial.stop?.gracePeriod, defaults.stop.gracePeriod)
  },
  drainTimeout: durationOr(partial.drainTimeout, defaults.drainTimeout),
  retention: {
    timeToLive: durationOr(partial.retention?.timeToLive, defaults.retention.timeToLive),
    maxEnded: numberOr(partial.retention?.maxEnded, defaults.retention.maxEnded, 0)
  },
  output: {
    maxBytesPerJob: numberOr(partial.output?.maxBytesPerJob, defaults.output.maxBytesPerJob, 0),
    maxBytes: numberOr(partial.output?.maxBytes, defaults.output.maxBytes, 0)
  },
  guardian: partial.guardian === "off" ? "off" : "on"
})

/**
 * The settings that a coordinator or a spawner reads when it is built. Unless they are provided, the defaults apply.
 *
 * @since 0.1.0
 * @category models
 */
export class JobConfig extends Context.Reference<JobConfig>()("joblib/JobConfig", {
  defaultValue: (): Settings => defaults
}) {}

/**
 * The defaults with some settings changed. Provide it to the layers that read it.
 *
 * @example
 * import { JobConfig, JobCoordinator, NodeProcessSpawner } from "effect-joblib"
 * import { Layer } from "effect"
 *
 * export const Jobs = JobCoordinator.layer.pipe(
 *   Layer.provide(NodeProcessSpawner.layer),
 *   Layer.provide(JobConfig.layer({ maxRunning: 8, stop: { gracePeriod: "30 seconds" } }))
 * )
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (partial: PartialSettings): Layer.Layer<never> => Layer.sync(JobConfig, () => make(partial))

const setting = <A>(name: string, config: (name: string) => Config.Config<A>): Config.Config<A | undefined> =>
  Config.map(Config.option(config(`JOBLIB_${name}`)), Option.getOrUndefined)

const count = (name: string) => positive(Config.integer(name))

const limit = (name: string) => positive(Config.number(name))

const positive = (config: Config.Config<number>) =>
  Config.validate(config, {
    message: "Expected a whole number above 0",
    validation: (n) => n > 0 && (Number.isInteger(n) || n === Infinity)
  })

const signal = (name: string) =>
  Config.string(name).pipe(Config.validate({ message: "Expected the name of a signal", validation: isSignal }))

const duration = (name: string) =>
  Config.mapOrFail(Config.string(name), (text) =>
    Either.fromOption(
      Durations.decode(text),
      () => ConfigError.InvalidData([], `Expected a duration such as "5 seconds", and not "${text}"`)
    ))

/**
 * The settings from the environment, or from any other `ConfigProvider`. The name of a setting is `JOBLIB_` and the
 * path of its field in upper snake case, such as `JOBLIB_MAX_RUNNING=8` or `JOBLIB_STOP_GRACE_PERIOD="30 seconds"`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const config: Config.Config<Settings> = Config.map(
  Config.all({
    mailboxCapacity: setting("MAILBOX_CAPACITY", count),
    maxRunning: setting("MAX_RUNNING", limit),
    maxSubscribers: setting("MAX_SUBSCRIBERS", limit),
    maxSubscribersPerJob: setting("MAX_SUBSCRIBERS_PER_JOB", limit),
    stop: Config.all({
      signal: setting("STOP_SIGNAL", signal),
      gracePeriod: setting("STOP_GRACE_PERIOD", duration)
    }),
    drainTimeout: setting("DRAIN_TIMEOUT", duration),
    retention: Config.all({
      timeToLive: setting("RETENTION_TIME_TO_LIVE", duration),
      maxEnded: setting("RETENTION_MAX_ENDED", limit)
    }),
    output: Config.all({
      maxBytesPerJob: setting("OUTPUT_MAX_BYTES_PER_JOB", limit),
      maxBytes: setting("OUTPUT_MAX_BYTES", limit)
    }),
    guardian: setting("GUARDIAN", (name) => Config.literal("on", "off")(name))
  }),
  make
)

/**
 * The settings from the environment; see `config`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: Layer.Layer<never, ConfigError.ConfigError> = Layer.effect(
  JobConfig,
  Effect.suspend(() => config)
)
