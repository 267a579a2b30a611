/**
 * What `tsc` checks: the exact types of the public interface, the error channel of every method before all. This file
 * need not run to fail, but a test runner wants to see a test.
 */
import { assert, it } from "@effect/vitest"
import type { ConfigError, Effect, Layer, Scope, Sink, Stream } from "effect"
import type * as Either from "effect/Either"
import type * as Option from "effect/Option"
import {
  JobConfig,
  JobCoordinator,
  type JobError,
  type JobEvent,
  type JobId,
  type JobInfo,
  JobSpec,
  type JobStatus,
  NodeProcessSpawner,
  type Output,
  type OutputStore,
  type ProcessSpawner,
  SimulatedProcesses
} from "../src/index.ts"

/** Whether two types are the same: neither wider, nor `any`. */
type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

/** Compiles only for the same type. */
const same = <A, B>(..._: Equal<A, B> extends true ? [] : ["these types differ", A, B]): void => {}

type Jobs = JobCoordinator.JobCoordinator["Type"]
type Success<M extends keyof Jobs> = Jobs[M] extends (...args: never) => infer R ? Ok<R> : Ok<Jobs[M]>
type Failure<M extends keyof Jobs> = Jobs[M] extends (...args: never) => infer R ? Err<R> : Err<Jobs[M]>
type Requirements<M extends keyof Jobs> = Jobs[M] extends (...args: never) => infer R ? Req<R> : Req<Jobs[M]>

type Ok<T> = T extends Effect.Effect<infer A, infer _E, infer _R> ? A
  : T extends Stream.Stream<infer A, infer _E, infer _R> ? A
  : T extends Sink.Sink<infer A, infer _In, infer _L, infer _E, infer _R> ? A
  : "no effect"
type Err<T> = T extends Effect.Effect<infer _A, infer E, infer _R> ? E
  : T extends Stream.Stream<infer _A, infer E, infer _R> ? E
  : T extends Sink.Sink<infer _A, infer _In, infer _L, infer E, infer _R> ? E
  : "no effect"
type Req<T> = T extends Effect.Effect<infer _A, infer _E, infer R> ? R
  : T extends Stream.Stream<infer _A, infer _E, infer R> ? R
  : T extends Sink.Sink<infer _A, infer _In, infer _L, infer _E, infer R> ? R
  : "no effect"

type OfOutput =
  | JobError.JobNotFound
  | JobError.SubscriberLimitReached
  | JobError.OutputEvicted
  | JobError.OutputStoreError
  | JobError.CoordinatorStopped

// Every method fails with errors of ours, and with no others.
same<Failure<"guarantee">, "no effect">()
same<
  Failure<"start">,
  JobError.JobStartError | JobError.InvalidJobSpec | JobError.JobLimitReached | JobError.CoordinatorStopped
>()
same<Failure<"stop">, JobError.JobNotFound | JobError.JobAlreadyEnded | JobError.CoordinatorStopped>()
same<Failure<"status">, JobError.JobNotFound | JobError.CoordinatorStopped>()
same<Failure<"wait">, JobError.JobNotFound | JobError.CoordinatorStopped>()
same<Failure<"info">, JobError.JobNotFound | JobError.CoordinatorStopped>()
same<Failure<"list">, JobError.CoordinatorStopped>()
same<Failure<"remove">, JobError.JobNotFound | JobError.JobStillRunning | JobError.CoordinatorStopped>()
same<Failure<"output">, OfOutput>()
same<Failure<"pull">, OfOutput>()
same<Err<Success<"pull">>, Option.Option<OfOutput>>()
same<Failure<"stdout">, OfOutput>()
same<Failure<"stderr">, OfOutput>()
same<
  Failure<"input">,
  JobError.JobNotFound | JobError.JobAlreadyEnded | JobError.InputClosed | JobError.CoordinatorStopped
>()
same<Failure<"events">, JobError.EventsMissed | JobError.CoordinatorStopped>()

// What they give.
same<Jobs["guarantee"], "leader" | "group" | "tree">()
same<Success<"start">, JobId.JobId>()
same<Success<"stop">, JobStatus.Exited | JobStatus.Killed>()
same<Success<"status">, JobStatus.Running | JobStatus.Exited | JobStatus.Killed>()
same<Success<"wait">, JobStatus.Exited | JobStatus.Killed>()
same<Success<"info">, JobInfo.JobInfo>()
same<Success<"list">, ReadonlyArray<JobInfo.JobInfo>>()
same<Success<"remove">, void>()
same<Success<"output">, Output.OutputChunk>()
same<Ok<Success<"pull">>, ReadonlyArray<Output.OutputChunk>>()
same<Success<"stdout">, Uint8Array>()
same<Success<"stderr">, Uint8Array>()
same<ReturnType<Jobs["input"]> extends Sink.Sink<void, Uint8Array, never, infer _E, never> ? true : false, true>()
same<Success<"events">, JobEvent.JobStarted | JobEvent.JobEnded | JobEvent.JobRemoved>()

// What they require: nothing, but for the scope of a pull.
same<
  { [M in Exclude<keyof Jobs, "guarantee" | "pull">]: Requirements<M> }[Exclude<keyof Jobs, "guarantee" | "pull">],
  never
>()
same<Requirements<"pull">, Scope.Scope>()
same<Req<Success<"pull">>, never>()

// What is derived from the methods fails with no more than they do.
same<
  Err<ReturnType<typeof JobCoordinator.run>>,
  JobError.StartError | OfOutput | JobError.OutputTooLarge | JobError.JobFailed
>()
same<Req<ReturnType<typeof JobCoordinator.run>>, JobCoordinator.JobCoordinator>()
same<Err<ReturnType<typeof JobCoordinator.startScoped>>, Failure<"start">>()
same<Ok<ReturnType<typeof JobCoordinator.startScoped>>, JobId.JobId>()
same<Req<ReturnType<typeof JobCoordinator.startScoped>>, JobCoordinator.JobCoordinator | Scope.Scope>()
same<
  Err<ReturnType<typeof JobCoordinator.stopAll>>,
  Exclude<Failure<"stop">, JobError.JobNotFound | JobError.JobAlreadyEnded>
>()
same<Req<ReturnType<typeof JobCoordinator.stopAll>>, JobCoordinator.JobCoordinator>()
same<Failure<"start">, JobError.StartError>()

// The list is complete.
same<
  keyof Jobs,
  | "guarantee"
  | "start"
  | "stop"
  | "status"
  | "wait"
  | "info"
  | "list"
  | "remove"
  | "output"
  | "pull"
  | "stdout"
  | "stderr"
  | "input"
  | "events"
>()

// Layers fail with nothing, but for the one that reads the environment.
same<
  typeof JobCoordinator.layer,
  Layer.Layer<JobCoordinator.JobCoordinator, never, ProcessSpawner.ProcessSpawner>
>()
same<
  typeof JobCoordinator.layerWithStore,
  Layer.Layer<JobCoordinator.JobCoordinator, never, ProcessSpawner.ProcessSpawner | OutputStore.OutputStore>
>()
same<typeof NodeProcessSpawner.layer, Layer.Layer<ProcessSpawner.ProcessSpawner>>()
same<typeof JobConfig.layerConfig, Layer.Layer<never, ConfigError.ConfigError>>()
same<ReturnType<typeof JobConfig.layer>, Layer.Layer<never>>()
same<
  ReturnType<typeof SimulatedProcesses.layer>,
  Layer.Layer<ProcessSpawner.ProcessSpawner | SimulatedProcesses.SimulatedProcesses>
>()

// What is asked of the caller.
same<ReturnType<typeof JobSpec.make>, JobSpec.JobSpec>()
same<ReturnType<typeof JobSpec.fromCommand>, Either.Either<JobSpec.JobSpec, JobError.InvalidJobSpec>>()

const misuse = (jobs: Jobs, id: JobId.JobId) => [
  // @ts-expect-error an id is no string
  jobs.status("ca9a2f61-5a4f-4d8e-9c58-4ecf4a7fd3c4"),
  // @ts-expect-error there is no such signal
  jobs.stop(id, { signal: "SIGNONSENSE" }),
  // @ts-expect-error nor such a status
  jobs.list({ status: "Ended" }),
  // @ts-expect-error a source is given by the name of the method
  jobs.stdout(id, { source: "stderr" }),
  // @ts-expect-error a command is required
  JobSpec.make({ args: [] }),
  // @ts-expect-error no setting has this name
  JobConfig.layer({ maxJobs: 1 })
]

it("the public types are exact, as tsc has checked", () => assert.isFunction(misuse))
