import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as JobConfig from "../src/JobConfig.ts"
import { JobCoordinator } from "../src/JobCoordinator.ts"
import * as JobSpec from "../src/JobSpec.ts"
import { simulated } from "./utils.ts"

describe("JobConfig", () => {
  it.effect("has its defaults where nobody provides it", () =>
    Effect.gen(function*() {
      const config = yield* JobConfig.JobConfig
      assert.deepStrictEqual(config, {
        mailboxCapacity: 1024,
        maxRunning: Infinity,
        maxSubscribers: 65_536,
        maxSubscribersPerJob: 4096,
        stop: { signal: "SIGTERM", gracePeriod: Duration.seconds(5) },
        drainTimeout: Duration.seconds(1),
        retention: { timeToLive: Duration.hours(1), maxEnded: 1000 },
        output: { maxBytesPerJob: 16 * 1024 * 1024, maxBytes: 256 * 1024 * 1024 },
        guardian: "on"
      })
    }))

  it.effect("layer changes what it is given, at any depth, and leaves the rest", () =>
    Effect.gen(function*() {
      const config = yield* JobConfig.JobConfig
      assert.deepStrictEqual(config, {
        ...JobConfig.defaults,
        maxRunning: 8,
        stop: { signal: "SIGTERM", gracePeriod: Duration.minutes(2) },
        drainTimeout: Duration.millis(10),
        retention: { timeToLive: Duration.infinity, maxEnded: 1000 },
        output: { ...JobConfig.defaults.output, maxBytes: 1 },
        guardian: "off"
      })
    }).pipe(Effect.provide(JobConfig.layer({
      maxRunning: 8,
      maxSubscribers: undefined,
      stop: { gracePeriod: "2 minutes", signal: undefined },
      drainTimeout: 10,
      retention: { timeToLive: Duration.infinity },
      output: { maxBytes: 1 },
      guardian: "off"
    }))))

  it.effect("a coordinator reads it where its layer is built", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      assert.deepInclude(yield* Effect.flip(jobs.start(JobSpec.make({ command: "p" }))), { limit: 0 })
    }).pipe(Effect.provide(simulated({ p: {} }, { maxRunning: 0 }))))

  for (const nonsense of [-1, 0.5, -Infinity]) {
    it.effect(`a coordinator works with ${nonsense} for every number`, () =>
      Effect.gen(function*() {
        const jobs = yield* JobCoordinator
        const error = yield* Effect.flip(jobs.start(JobSpec.make({ command: "p" })))
        assert.deepInclude(error, { _tag: "JobLimitReached", limit: 0 })
        assert.deepStrictEqual(yield* jobs.list(), [])
      }).pipe(Effect.provide(simulated({ p: {} }, {
        mailboxCapacity: nonsense,
        maxRunning: nonsense,
        maxSubscribers: nonsense,
        maxSubscribersPerJob: nonsense,
        retention: { maxEnded: nonsense },
        output: { maxBytesPerJob: nonsense, maxBytes: nonsense }
      }))))
  }
})

describe("what is no setting counts as absent", () => {
  const durations: ReadonlyArray<unknown> = [
    NaN,
    -1,
    -5n,
    "-5 seconds",
    " -1 millis",
    "1e3 seconds",
    "soon",
    [NaN, 0],
    {},
    null
  ]
  const numbers: ReadonlyArray<unknown> = [NaN, "8", null, {}, 8n]

  it("a duration", () => {
    for (const nonsense of durations) {
      const time = nonsense as Duration.DurationInput
      assert.deepStrictEqual(
        JobConfig.make({ stop: { gracePeriod: time }, drainTimeout: time, retention: { timeToLive: time } }),
        JobConfig.defaults
      )
    }
  })

  it("a number", () => {
    for (const nonsense of numbers) {
      const number = nonsense as number
      assert.deepStrictEqual(
        JobConfig.make({
          mailboxCapacity: number,
          maxRunning: number,
          maxSubscribers: number,
          maxSubscribersPerJob: number,
          retention: { maxEnded: number },
          output: { maxBytesPerJob: number, maxBytes: number }
        }),
        JobConfig.defaults
      )
    }
  })

  it("a signal, a guardian", () => {
    for (const nonsense of ["SIGFOO", "sigterm", 9, null]) {
      assert.deepStrictEqual(
        JobConfig.make({ stop: { signal: nonsense as "SIGTERM" }, guardian: nonsense as "on" }),
        JobConfig.defaults
      )
    }
  })
})

describe("JobConfig.layerConfig", () => {
  const read = (variables: Readonly<Record<string, string>>) =>
    Effect.provide(
      JobConfig.JobConfig,
      Layer.provide(
        JobConfig.layerConfig,
        Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(variables))))
      )
    )

  it.effect("gives the defaults where the environment says nothing", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* read({}), JobConfig.defaults)
      assert.deepStrictEqual(yield* read({ MAX_RUNNING: "1", JOBLIB_MAXRUNNING: "1" }), JobConfig.defaults)
    }))

  const variables: ReadonlyArray<readonly [string, string, JobConfig.PartialSettings, ReadonlyArray<string>]> = [
    ["JOBLIB_MAILBOX_CAPACITY", "1", { mailboxCapacity: 1 }, ["0", "-1", "many", "1.5", ""]],
    ["JOBLIB_MAX_RUNNING", "8", { maxRunning: 8 }, ["0", "-8", "all", "2.5", "NaN", ""]],
    ["JOBLIB_MAX_RUNNING", "Infinity", { maxRunning: Infinity }, []],
    ["JOBLIB_MAX_SUBSCRIBERS", "10", { maxSubscribers: 10 }, ["0", "x", "0.1"]],
    ["JOBLIB_MAX_SUBSCRIBERS_PER_JOB", "11", { maxSubscribersPerJob: 11 }, ["0", "x", "0.1"]],
    ["JOBLIB_STOP_SIGNAL", "SIGINT", { stop: { signal: "SIGINT" } }, ["INT", "sigint", "9", ""]],
    ["JOBLIB_STOP_GRACE_PERIOD", "30 seconds", { stop: { gracePeriod: "30 seconds" } }, [
      "30",
      "soon",
      "",
      "-5 seconds",
      "1e3 seconds"
    ]],
    ["JOBLIB_DRAIN_TIMEOUT", "10 millis", { drainTimeout: 10 }, ["quick", "10ms?"]],
    ["JOBLIB_RETENTION_TIME_TO_LIVE", "2 days", { retention: { timeToLive: "2 days" } }, ["forever"]],
    ["JOBLIB_RETENTION_MAX_ENDED", "7", { retention: { maxEnded: 7 } }, ["-1", "few"]],
    ["JOBLIB_OUTPUT_MAX_BYTES_PER_JOB", "4096", { output: { maxBytesPerJob: 4096 } }, ["0", "4k"]],
    ["JOBLIB_OUTPUT_MAX_BYTES", "8192", { output: { maxBytes: 8192 } }, ["0", "8k"]],
    ["JOBLIB_GUARDIAN", "off", { guardian: "off" }, ["no", "ON", ""]]
  ]

  for (const [name, value, partial, nonsense] of variables) {
    it.effect(`${name}=${value}`, () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* read({ [name]: value }), JobConfig.make(partial))
        for (const text of nonsense) {
          const error = yield* Effect.flip(read({ [name]: text }))
          assert.include(["InvalidData", "MissingData"], error._op, `${name}=${text}`)
          assert.include(String(error), name)
        }
      }))
  }

  it.effect("reads all of them together", () =>
    Effect.gen(function*() {
      const all = Object.fromEntries(variables.map(([name, value]) => [name, value]))
      assert.deepStrictEqual(
        yield* read(all),
        JobConfig.make({
          mailboxCapacity: 1,
          maxRunning: Infinity,
          maxSubscribers: 10,
          maxSubscribersPerJob: 11,
          stop: { signal: "SIGINT", gracePeriod: "30 seconds" },
          drainTimeout: "10 millis",
          retention: { timeToLive: "2 days", maxEnded: 7 },
          output: { maxBytesPerJob: 4096, maxBytes: 8192 },
          guardian: "off"
        })
      )
    }))
})
