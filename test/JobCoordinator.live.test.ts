import * as Command from "@effect/platform/Command"
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { JobCoordinator } from "../src/JobCoordinator.ts"
import type { JobId } from "../src/JobId.ts"
import * as JobSpec from "../src/JobSpec.ts"
import { Exited } from "../src/JobStatus.ts"
import * as Processes from "./fixtures/processes.ts"
import * as WallTime from "./fixtures/wallTime.ts"
import { latin1, live, mark, textOf } from "./utils.ts"

const processes = mark()
afterAll(() => {
  assert.deepStrictEqual(processes.alive(), [], "no process is left")
  assert.deepStrictEqual(Processes.guardiansOf(process.pid), [], "no guardian is left")
})

const run = (command: string, ...args: ReadonlyArray<string>) => JobSpec.make({ command, args })
const sh = (script: string, options: Partial<JobSpec.Options> = {}) =>
  JobSpec.make({ ...options, command: "sh", args: ["-c", script] })

const stdoutOf = (id: JobId) =>
  Effect.flatMap(JobCoordinator, (jobs) => Effect.map(Stream.runCollect(jobs.stdout(id)), latin1))

const directory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(tmpdir(), "joblib-"))),
  (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
)

describe("the prototype's promises", () => {
  it.live("echo -n is read back exactly, from a spec and from a Command", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      for (const job of [run("echo", "-n", "hello world"), Command.make("echo", "-n", "hello world")]) {
        const id = yield* jobs.start(job)
        assert.strictEqual(yield* textOf(jobs.output(id)), "hello world")
        assert.strictEqual(yield* stdoutOf(id), "hello world")
      }
    }).pipe(Effect.provide(live())))

  it.live("3,600 subscribers of one job, who then wait a second each, are done within ten, with the exact bytes", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(sh("printf one; sleep 0.5; printf two; sleep 0.5; printf three"))
      const cpu = process.cpuUsage()
      const [time, texts] = yield* Effect.timed(Effect.forEach(
        Array.from({ length: 3600 }),
        () => Effect.zipLeft(textOf(jobs.output(id)), Effect.sleep("1 second")),
        { concurrency: "unbounded" }
      ))
      // Of its own time, where the machine is busy with others.
      const { system, user } = process.cpuUsage(cpu)
      WallTime.assertWithin(Math.min(Duration.toMillis(time), (user + system) / 1000), 10_000)
      assert.lengthOf(texts, 3600)
      assert.deepStrictEqual(new Set(texts), new Set(["onetwothree"]))
    }).pipe(Effect.provide(live())))
})

describe("a start that fails", () => {
  /** What goes wrong, what is started, and the reason that is given. */
  const failures = (directory: string): ReadonlyArray<readonly [string, JobSpec.JobSpec, string]> => {
    const file = (name: string, content: string, mode: number) => {
      const path = Path.join(directory, name)
      Fs.writeFileSync(path, content)
      Fs.chmodSync(path, mode)
      return path
    }
    const inDirectory = (cwd: string) => JobSpec.make({ command: "true", cwd })
    const plain = file("plain", "exit 0", 0o644)
    return [
      ["no such program", run("joblib-no-such-program"), "NotFound"],
      ["no such file", run("/no/such/file"), "NotFound"],
      ["a path through a file", run(`${plain}/true`), "NotFound"],
      ["a name that is too long", run("x".repeat(5000)), "NotFound"],
      ["a missing interpreter", run(file("script", "#!/no/such/interpreter\n", 0o755)), "NotFound"],
      ["a file that may not be executed", run(plain), "PermissionDenied"],
      ["a directory", run(directory), "PermissionDenied"],
      ["a working directory that is missing", inDirectory("/no/such/directory"), "InvalidDirectory"],
      ["a working directory that is a file", inDirectory(plain), "InvalidDirectory"],
      ["an argument that is too long", run("true", "x".repeat(3_000_000)), "ArgumentListTooLong"],
      [
        "too many arguments",
        JobSpec.make({ command: "true", args: Array.from({ length: 400_000 }, () => "0123456789") }),
        "ArgumentListTooLong"
      ],
      [
        "too long an environment",
        JobSpec.make({ command: "true", env: { X: "x".repeat(3_000_000) } }),
        "ArgumentListTooLong"
      ],
      ["a NUL in an argument", run("true", "a\0b"), "InvalidJobSpec args.0"],
      ["a NUL in the program", run("tr\0ue"), "InvalidJobSpec command"],
      ["no program", run(""), "InvalidJobSpec command"],
      [
        "a negative timeout",
        JobSpec.make({ command: "true", timeout: "-1 seconds" as "1 second" }),
        "InvalidJobSpec timeout"
      ],
      ["nothing at all", undefined as never, "InvalidJobSpec spec"]
    ]
  }

  it.scopedLive("has a reason of its own, and the coordinator goes on", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      for (const [what, spec, reason] of failures(yield* directory)) {
        const error = yield* Effect.flip(jobs.start(spec))
        const found = error._tag === "JobStartError"
          ? error.reason
          : error._tag === "InvalidJobSpec"
          ? `${error._tag} ${error.field}`
          : error._tag
        assert.strictEqual(found, reason, what)
        assert.isNotEmpty(error.message)
        // Its place is free.
        assert.deepStrictEqual(yield* Effect.flatMap(jobs.start(run("true")), jobs.wait), new Exited({ code: 0 }))
      }
      assert.isTrue((yield* jobs.list()).every((info) => info.spec.command === "true"))
    }).pipe(Effect.provide(live({ maxRunning: 1 }))))

  it.scopedLive("a file that somebody is writing is refused for a reason that has no name here", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const path = Path.join(yield* directory, "busy")
      Fs.copyFileSync("/bin/true", path)
      Fs.chmodSync(path, 0o755)
      const descriptor = Fs.openSync(path, "r+")
      const error = yield* Effect.flip(jobs.start(run(path)))
      Fs.closeSync(descriptor)
      assert.deepInclude(error, { _tag: "JobStartError", reason: "Unknown", command: path })
      yield* jobs.wait(yield* jobs.start(run(path)))
    }).pipe(Effect.provide(live())))

  it.live("a Command that cannot be a job is an InvalidJobSpec that says what to do instead", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const commands = [
        Command.pipeTo(Command.make("true"), Command.make("cat")),
        Command.feed(Command.make("cat"), "meow"),
        Command.stdout(Command.make("true"), "inherit")
      ]
      for (const command of commands) {
        assert.strictEqual((yield* Effect.flip(jobs.start(command)))._tag, "InvalidJobSpec")
      }
    }).pipe(Effect.provide(live())))
})

describe("input", () => {
  const pipe = { stdin: "pipe" } as const
  const cat = JobSpec.make({ command: "cat", ...pipe })
  const text = (...parts: ReadonlyArray<string>) => Stream.fromIterable(parts.map((part) => Buffer.from(part)))

  const failing = <A extends { readonly _tag: string }>(effect: Effect.Effect<unknown, A>) =>
    Effect.map(Effect.flip(effect), (error) => error._tag)

  it.live("is written byte for byte, and closed when the stream ends", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(cat)
      const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))
      yield* Stream.run(Stream.make(everyByte, Buffer.alloc(0), everyByte), jobs.input(id))
      assert.deepStrictEqual(yield* jobs.wait(id), new Exited({ code: 0 }))
      assert.strictEqual(yield* stdoutOf(id), latin1([everyByte, everyByte]))
    }).pipe(Effect.provide(live())))

  it.live("an empty stream closes it", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(cat)
      yield* Stream.run(Stream.empty, jobs.input(id))
      assert.deepStrictEqual(yield* jobs.wait(id), new Exited({ code: 0 }))
    }).pipe(Effect.provide(live())))

  it.live("stays open when the stream fails or is interrupted, for the next writer", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(cat)
      const failed = Stream.run(Stream.concat(text("one "), Stream.fail("no more")), jobs.input(id))
      assert.strictEqual(yield* Effect.flip(failed), "no more")
      const writer = yield* Effect.fork(Stream.run(Stream.concat(text("two "), Stream.never), jobs.input(id)))
      yield* Stream.runHead(jobs.stdout(id, { from: 4 }))
      yield* Fiber.interrupt(writer)
      assert.strictEqual((yield* jobs.status(id))._tag, "Running")
      yield* Stream.run(text("three"), jobs.input(id))
      yield* jobs.wait(id)
      assert.strictEqual(yield* stdoutOf(id), "one two three")
    }).pipe(Effect.provide(live())))

  it.live("several writers interleave by chunk; once one has closed it, the others get InputClosed", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(cat)
      const others = yield* Effect.forEach(
        ["a", "b", "c"],
        (letter) => Effect.fork(Stream.run(Stream.repeatValue(Buffer.from(letter.repeat(1000))), jobs.input(id)))
      )
      // Until each of them has been heard.
      yield* Stream.runDrain(
        jobs.stdout(id).pipe(
          Stream.scan(
            "",
            (heard, bytes) => new Set(heard + latin1([bytes])).size === 3 ? "abc" : heard + latin1([bytes])
          ),
          Stream.takeUntil((heard) => heard === "abc")
        )
      )
      yield* Stream.run(text("d"), jobs.input(id))
      for (const other of others) assert.include(["InputClosed", "JobAlreadyEnded"], yield* failing(Fiber.join(other)))
      const written = yield* stdoutOf(id)
      assert.match(written, /^((a{1000}|b{1000}|c{1000})*d(a{1000}|b{1000}|c{1000})*)$/)
      assert.strictEqual(yield* failing(Stream.run(text("e"), jobs.input(id))), "JobAlreadyEnded")
    }).pipe(Effect.provide(live())))

  it.live("is as fast as the job reads", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(cat)
      const { pid } = yield* jobs.info(id)
      process.kill(pid, "SIGSTOP")
      let written = 0
      const chunk = Buffer.alloc(16 * 1024, "x")
      const writer = yield* Effect.fork(
        Stream.run(
          Stream.repeatValue(chunk).pipe(Stream.take(200), Stream.tap(() => Effect.sync(() => written++))),
          jobs.input(id)
        )
      )
      // The pipe takes 64 KiB, and a chunk waits in front of it.
      yield* Processes.eventually(() => written, (count) => count >= 4)
      yield* Effect.sleep("50 millis")
      assert.isBelow(written, 20)
      process.kill(pid, "SIGCONT")
      yield* Fiber.join(writer)
      assert.strictEqual((yield* stdoutOf(id)).length, 200 * chunk.length)
    }).pipe(Effect.provide(live())))

  it.live("a job that has none, that has closed it, or that has ended", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const without = yield* jobs.start(run("sleep", "1000"))
      assert.strictEqual(yield* failing(Stream.run(text("x"), jobs.input(without))), "InputClosed")
      assert.strictEqual(yield* failing(Stream.run(Stream.empty, jobs.input(without))), "InputClosed")

      const closed = yield* jobs.start(sh("exec 0<&-; echo closed; exec sleep 1000", pipe))
      yield* Stream.runHead(jobs.stdout(closed))
      assert.strictEqual(
        yield* failing(Stream.run(Stream.repeatValue(Buffer.from("x")), jobs.input(closed))),
        "InputClosed"
      )
      assert.strictEqual((yield* jobs.status(closed))._tag, "Running")

      const twice = yield* jobs.start(sh("cat; exec sleep 1000", pipe))
      yield* Stream.run(text("x"), jobs.input(twice))
      assert.strictEqual(yield* failing(Stream.run(text("y"), jobs.input(twice))), "InputClosed")

      const over = yield* jobs.start(run("true"))
      yield* jobs.wait(over)
      assert.strictEqual(yield* failing(Stream.run(text("x"), jobs.input(over))), "JobAlreadyEnded")
      assert.strictEqual(yield* failing(Stream.run(Stream.empty, jobs.input(over))), "JobAlreadyEnded")
    }).pipe(Effect.provide(live())))
})

describe("backpressure", () => {
  it.live("readers that keep up lose nothing, however fast the job writes more than is kept", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const total = 100_000_000
      const id = yield* jobs.start(run("head", "-c", String(total), "/dev/zero"))
      const counts = yield* Effect.forEach(
        Array.from({ length: 50 }),
        () => Stream.runFold(jobs.output(id), 0, (sum, chunk) => sum + chunk.bytes.length),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(new Set(counts), new Set([total]))
    }).pipe(Effect.provide(live())))

  it.scopedLive("a reader that blocks makes an endless writer wait, in bounded memory", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const id = yield* jobs.start(
        JobSpec.make({ command: "cat", args: ["/dev/zero"], output: { maxBytes: 1_000_000 } })
      )
      const pull = yield* jobs.pull(id, { whenBehind: "block" })
      const written = Effect.map(jobs.info(id), (info) => info.output.stdoutBytes)
      let read = 0
      for (let i = 0; i < 10; i++) {
        // A read is kept whole as long as the reader is within it.
        while ((yield* written) < read + 900_000) yield* Effect.sleep(1)
        yield* Effect.sleep(5)
        assert.isBelow((yield* written) - read, 1_200_000)
        for (const { bytes, offset } of yield* pull) {
          assert.strictEqual(offset, read)
          read += bytes.length
        }
      }
      yield* jobs.stop(id)
    }).pipe(Effect.provide(live())))
})

describe("closing the layer", () => {
  it.live("with a reader that is frozen, a writer that is stuck and a job that minds nothing: within its bound", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(live({ stop: { gracePeriod: "300 millis" } }), scope)
      const jobs = Context.get(context, JobCoordinator)
      const flood = yield* jobs.start(
        JobSpec.make({ command: "cat", args: ["/dev/zero"], output: { maxBytes: 100_000 } })
      )
      const readers = yield* Scope.make()
      const frozen = yield* Scope.extend(jobs.pull(flood, { whenBehind: "block" }), readers)
      const stuck = yield* jobs.start(sh("trap '' TERM; echo up; sleep 1000", { stdin: "pipe" }))
      const deaf = yield* jobs.start(sh("trap '' TERM; echo up; sleep 1000 & sleep 1001"))
      yield* Effect.forEach([stuck, deaf, flood], (id) => Stream.runHead(jobs.stdout(id)))

      const pending = yield* Effect.forEach([
        Stream.run(Stream.repeatValue(Buffer.alloc(100_000)), jobs.input(stuck)),
        jobs.wait(deaf),
        jobs.stop(deaf, { gracePeriod: "1 hour" }),
        jobs.wait(flood),
        Stream.runDrain(jobs.output(stuck)),
        Stream.runDrain(jobs.events)
      ] as ReadonlyArray<Effect.Effect<unknown, unknown>>, (effect) => Effect.fork(effect))
      yield* Effect.sleep("50 millis")
      const [time] = yield* Effect.timed(Scope.close(scope, Exit.void))
      WallTime.assertWithin(Duration.toMillis(time), 2300)
      const exits = yield* Effect.forEach(pending, Fiber.await)
      assert.deepStrictEqual(exits.slice(1).map(Exit.isSuccess), [true, true, true, true, true])
      const [writer] = exits
      assert.include(
        ["InputClosed", "JobAlreadyEnded"],
        writer && Exit.isFailure(writer) &&
          (yield* Effect.flip(writer) as Effect.Effect<{ readonly _tag: string }>)._tag
      )
      // Nobody waited for this reader, and nothing of what it pinned is lost.
      assert.isAtLeast(Chunk.size(Chunk.fromIterable(yield* frozen)), 1)
      yield* Scope.close(readers, Exit.void)
      assert.deepStrictEqual(processes.alive(), [])
    }))
})
