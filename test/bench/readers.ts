/**
 * One reader of a job's output, all of which is kept.
 */
import * as Command from "@effect/platform/Command"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { once } from "node:events"
import { expectBytes, spawn, specOf, time, timePromise, withCommands, withJobs } from "./host.ts"
import type { Program } from "./programs.ts"
import type { Contestant } from "./work.ts"

/** One reader, by whatever coordinator there is. */
export const reader = (
  program: Program,
  size: number,
  run = withJobs,
  transport?: "pipe" | "socket"
): Contestant => ({
  measure: () =>
    run((jobs) =>
      time(Effect.gen(function*() {
        let length = 0
        const id = yield* jobs.start(specOf(program, transport))
        yield* Stream.runForEachChunk(jobs.output(id), (chunks) => {
          for (const { bytes } of Chunk.toReadonlyArray(chunks)) length += bytes.length
          return Effect.void
        })
        expectBytes(size, length)
      }))
    )
})

export const readers = (
  program: Program,
  size: number,
  ratio: number,
  transport: "pipe" | "socket" = "pipe"
): Record<string, Contestant> => ({
  [`joblib, by a ${transport}`]: reader(program, size, withJobs, transport),
  "plain Node that keeps the bytes": {
    target: { ratio },
    measure: () =>
      timePromise(async () => {
        const kept: Array<Uint8Array> = []
        let length = 0
        const child = spawn(program)
        child.stderr.resume()
        child.stdout.on("data", (bytes: Uint8Array) => {
          kept.push(bytes)
          length += bytes.length
        })
        await once(child, "close")
        expectBytes(size, length)
      })
  },
  "@effect/platform Command that keeps the bytes": {
    measure: () => {
      const kept: Array<Uint8Array> = []
      let length = 0
      const [command, ...args] = program
      return withCommands(time(Effect.gen(function*() {
        const child = yield* Command.start(Command.make(command, ...args))
        yield* Stream.runForEachChunk(child.stdout, (chunks) => {
          for (const bytes of Chunk.toReadonlyArray(chunks)) {
            kept.push(bytes)
            length += bytes.length
          }
          return Effect.void
        })
        yield* child.exitCode
        expectBytes(size, length)
      })))
    }
  }
})
