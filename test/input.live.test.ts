import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"
import { JobCoordinator } from "../src/JobCoordinator.ts"
import * as JobSpec from "../src/JobSpec.ts"
import { memoryInUse } from "./fixtures/garbage.ts"
import { live, mark } from "./utils.ts"

const MiB = 1024 * 1024

/** Chunks of bytes that never repeat, as long as no pipe or page is. */
const randomChunks = (total: number) =>
  Stream.unfold({ left: total, state: 1 }, ({ left, state }) => {
    if (left === 0) return Option.none()
    const chunk = new Uint32Array(Math.min(left, 99_996) / 4)
    for (let i = 0; i < chunk.length; i++) chunk[i] = state = Math.imul(state, 1664525) + 1013904223
    return Option.some([new Uint8Array(chunk.buffer), { left: left - chunk.byteLength, state }])
  })

describe("input", () => {
  const processes = mark()
  afterAll(() => assert.deepStrictEqual(processes.alive(), [], "no process is left"))

  it.live("cat, fed 64 MiB while it is read, gives them back byte for byte, in bounded memory", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(JobSpec.make({ command: "cat", stdin: "pipe", output: { maxBytes: MiB } }))
      const before = memoryInUse()
      const sent = createHash("sha256")
      const received = createHash("sha256")
      let written = 0
      let read = 0
      let measuredAt = 0
      let mostKept = 0
      let mostInFlight = 0

      const writer = yield* randomChunks(64 * MiB).pipe(
        Stream.rechunk(1),
        Stream.tap((chunk) =>
          Effect.sync(() => {
            sent.update(chunk)
            written += chunk.length
          })
        ),
        Stream.run(jobs.input(id)),
        Effect.fork
      )
      yield* Stream.runForEach(jobs.stdout(id, { whenBehind: "block" }), (bytes) =>
        Effect.sync(() => {
          received.update(bytes)
          mostInFlight = Math.max(mostInFlight, written - read)
          read += bytes.length
          if (read - measuredAt < 8 * MiB) return
          measuredAt = read
          mostKept = Math.max(mostKept, memoryInUse() - before)
        }))
      yield* Fiber.join(writer)

      assert.strictEqual(read, 64 * MiB)
      assert.strictEqual(received.digest("hex"), sent.digest("hex"))
      // The log, a pipe on either side of cat, and what is being written and read.
      assert.isBelow(mostInFlight, 2 * MiB)
      assert.isBelow(mostKept, 8 * MiB)
      assert.strictEqual((yield* jobs.info(id)).output.stdoutBytes, 64 * MiB)
    }).pipe(Effect.provide(live())))
})
