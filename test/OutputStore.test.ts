import { FileSystem } from "@effect/platform"
import { NodeContext } from "@effect/platform-node"
import { expect, it } from "@effect/vitest"
import { Effect, Layer, Stream } from "effect"
import { JobCoordinator, JobSpec, NodeProcessSpawner, type Output, OutputStore } from "../src/index.ts"
import { settings } from "./utils.ts"

/** A coordinator that keeps output in files, with a window in memory so small that most is read from disk. */
const withFiles = (options: Partial<OutputStore.FileSystemOptions> = {}) =>
  Layer.unwrapScoped(Effect.map(
    Effect.flatMap(FileSystem.FileSystem, (fs) => fs.makeTempDirectoryScoped({ prefix: "joblib-" })),
    (directory) =>
      JobCoordinator.layerWithStore.pipe(
        Layer.provide(OutputStore.layerFileSystem({ directory, window: { maxBytesPerJob: 10_000 }, ...options })),
        Layer.provide(NodeProcessSpawner.layer),
        Layer.provide(settings())
      )
  )).pipe(Layer.provideMerge(NodeContext.layer))

const twoSources = JobSpec.make({
  command: process.execPath,
  args: [
    "-e",
    `const fs = require("fs"); for (let i = 0; i < 20000; i++) {
      fs.writeSync(1, "out " + i + "\\n"); if (i % 3 === 0) fs.writeSync(2, "err " + i + "\\n") }`
  ]
})

const expected = (name: string, step: number) =>
  Array.from({ length: Math.ceil(20_000 / step) }, (_, i) => `${name} ${i * step}\n`).join("")

const textOf = (chunks: Iterable<Output.OutputChunk>, source: Output.OutputSource) =>
  Buffer.concat(Array.from(chunks).filter((chunk) => chunk.source === source).map((chunk) => chunk.bytes)).toString()

it.scopedLive("a late reader gets from the files what memory has lost, byte for byte", () =>
  Effect.gen(function*() {
    const jobs = yield* JobCoordinator.JobCoordinator
    const id = yield* jobs.start(twoSources)
    const early = yield* Effect.fork(Stream.runCollect(jobs.output(id)))
    yield* jobs.wait(id)
    const chunks = Array.from(yield* Stream.runCollect(jobs.output(id)))
    expect(textOf(chunks, "stdout")).toBe(expected("out", 1))
    expect(textOf(chunks, "stderr")).toBe(expected("err", 3))
    let offset = 0
    for (const chunk of chunks) {
      expect(chunk.offset).toBe(offset)
      offset += chunk.bytes.length
    }
    expect(textOf(yield* early, "stdout")).toBe(expected("out", 1))
    expect(Buffer.concat(Array.from(yield* Stream.runCollect(jobs.stderr(id)))).toString()).toBe(expected("err", 3))
    const tail = Buffer.concat(Array.from(yield* Stream.runCollect(jobs.stderr(id, { from: { tail: 50_000 } }))))
    expect(tail.toString()).toBe(expected("err", 3).slice(-50_000))
    expect((yield* jobs.info(id)).output.evictedBytes).toBe(0)
  }).pipe(Effect.provide(withFiles({ segmentBytes: 30_000 }))))
