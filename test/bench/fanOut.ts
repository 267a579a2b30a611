/**
 * Many subscribers to the output of one job; each counts what it gets.
 */
import * as NodeStream from "@effect/platform-node/NodeStream"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"
import { EventEmitter, once } from "node:events"
import type { JobCoordinator, JobId } from "../../src/index.ts"
import { expectBytes, spawn, specOf, time, timePromise, withJobs } from "./host.ts"
import type { Program } from "./programs.ts"
import type { Contestant } from "./work.ts"

interface Broadcast {
  readonly program: Program
  readonly size: number
  readonly subscribers: number
}

type Subscriber = (jobs: JobCoordinator.JobCoordinator["Type"], id: JobId.JobId) => Effect.Effect<number, unknown>

export const byStream: Subscriber = (jobs, id) =>
  Effect.suspend(() => {
    let length = 0
    return Stream.runForEachChunk(jobs.output(id), (chunks) => {
      for (const { bytes } of Chunk.toReadonlyArray(chunks)) length += bytes.length
      return Exit.void
    }).pipe(Effect.map(() => length))
  })

export const byPull: Subscriber = (jobs, id) =>
  Effect.scoped(Effect.flatMap(jobs.pull(id), (pull) => {
    let length = 0
    const next: Effect.Effect<number, unknown> = Effect.matchEffect(pull, {
      onSuccess: (chunks) => {
        for (const { bytes } of chunks) length += bytes.length
        return next
      },
      onFailure: (end) => Option.isNone(end) ? Effect.succeed(length) : Effect.fail(end.value)
    })
    return next
  }))

const each = (count: number, subscriber: Effect.Effect<number, unknown>, size: number) =>
  Effect.replicateEffect(Effect.map(subscriber, (length) => expectBytes(size, length)), count, {
    concurrency: "unbounded",
    discard: true
  })

export const joblib = ({ program, size, subscribers }: Broadcast, subscriber: Subscriber): Contestant => ({
  measure: () =>
    withJobs((jobs) =>
      time(Effect.flatMap(jobs.start(specOf(program)), (id) => each(subscribers, subscriber(jobs, id), size)))
    )
})

/** It keeps nothing: who comes late, or is slow, has lost it. */
export const eventEmitter = ({ program, size, subscribers }: Broadcast, ratio: number): Contestant => ({
  target: { ratio },
  measure: () =>
    timePromise(async () => {
      const emitter = new EventEmitter().setMaxListeners(0)
      const lengths = Array.from({ length: subscribers }, () => ({ length: 0 }))
      for (const count of lengths) {
        emitter.on("data", (bytes: Uint8Array) => {
          count.length += bytes.length
        })
      }
      const child = spawn(program)
      child.stderr.resume()
      child.stdout.on("data", (bytes: Uint8Array) => emitter.emit("data", bytes))
      await once(child, "close")
      for (const { length } of lengths) expectBytes(size, length)
    })
})

/** Every chunk goes through the `PubSub`, and `null` is the end. */
export const pubSub = ({ program, size, subscribers }: Broadcast, ratio?: number): Contestant => ({
  ...(ratio === undefined ? {} : { target: { ratio } }),
  measure: () =>
    Effect.runPromise(time(Effect.gen(function*() {
      const pubsub = yield* PubSub.bounded<Uint8Array | null>(256)
      const subscriber = Effect.scoped(Effect.flatMap(PubSub.subscribe(pubsub), (queue) => {
        let length = 0
        const output = Stream.takeWhile(Stream.fromQueue(queue), (bytes) => bytes !== null)
        return Stream.runForEachChunk(output, (chunks) => {
          for (const bytes of Chunk.toReadonlyArray(chunks)) length += bytes?.length ?? 0
          return Exit.void
        }).pipe(Effect.map(() => length))
      }))
      const readers = yield* Effect.fork(each(subscribers, subscriber, size))
      yield* Effect.sleep(5)
      const child = spawn(program)
      child.stderr.resume()
      const output = NodeStream.fromReadable<Error, Uint8Array>(() => child.stdout, (error) => new Error(String(error)))
      yield* Stream.runForEachChunk(output, (chunk) => PubSub.publishAll(pubsub, chunk))
      yield* PubSub.publish(pubsub, null)
      yield* Fiber.join(readers)
    })))
})
