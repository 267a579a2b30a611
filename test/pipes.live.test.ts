/**
 * What a job reads and writes by: pipes of the kernel, so that scripts find what they would find in a shell.
 */
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import * as Pipes from "../src/internal/process/pipes.ts"
import { JobCoordinator } from "../src/JobCoordinator.ts"
import * as JobSpec from "../src/JobSpec.ts"
import { Exited } from "../src/JobStatus.ts"
import * as Processes from "./fixtures/processes.ts"
import { numbers, size } from "./fixtures/sizes.ts"
import { latin1, live, mark, textOf } from "./utils.ts"

const processes = mark()
afterAll(() => assert.deepStrictEqual(processes.alive().map(Processes.commandOf), [], "no process is left"))

const shell = (name: "sh" | "bash", script: string, options: Partial<JobSpec.Options> = {}) =>
  JobSpec.make({ command: name, args: ["-c", script], ...options })

/** Runs a job to its end, with this input, if any; its output and how it ended. */
const run = (spec: JobSpec.JobSpec, input?: string) =>
  Effect.gen(function*() {
    const jobs = yield* JobCoordinator
    const id = yield* jobs.start(spec)
    if (input !== undefined) yield* Stream.run(Stream.make(Buffer.from(input)), jobs.input(id))
    const end = yield* jobs.wait(id)
    return {
      end,
      stdout: latin1(yield* Stream.runCollect(jobs.stdout(id))),
      stderr: latin1(yield* Stream.runCollect(jobs.stderr(id))),
      all: yield* textOf(jobs.output(id))
    }
  })

const done = new Exited({ code: 0 })

describe.each(["sh", "bash"] as const)("a job in %s", (name) => {
  it.live("opens /dev/stderr and /dev/stdout by their names", () =>
    Effect.gen(function*() {
      const { end, stderr, stdout } = yield* run(
        shell(name, "echo err > /dev/stderr; echo out > /dev/stdout; echo more >> /proc/self/fd/2")
      )
      assert.deepStrictEqual([end, stdout, stderr], [done, "out\n", "err\nmore\n"])
    }).pipe(Effect.provide(live())))

  it.live("has a tee to /dev/stderr", () =>
    Effect.gen(function*() {
      const { end, stderr, stdout } = yield* run(shell(name, "echo both | tee /dev/stderr"))
      assert.deepStrictEqual([end, stdout, stderr], [done, "both\n", "both\n"])
    }).pipe(Effect.provide(live())))

  it.live("reads /dev/stdin, also when its input was closed long before", () =>
    Effect.gen(function*() {
      const input = { stdin: "pipe" } as const
      for (const script of ["cat /dev/stdin", "sleep 0.3; cat /dev/stdin", "sleep 0.3; cat < /proc/self/fd/0"]) {
        const { end, stdout } = yield* run(shell(name, script, input), "words\n")
        assert.deepStrictEqual([end, stdout], [done, "words\n"], script)
      }
    }).pipe(Effect.provide(live())))

  it.live("has pipes, and nothing else of its host", () =>
    Effect.gen(function*() {
      const { stdout } = yield* run(shell(name, "ls -l /proc/self/fd", { stdin: "pipe" }), "")
      // What the host itself was given by whoever started it may come after these.
      const links = stdout.split("\n").flatMap((line) => / (\d -> .*)$/.exec(line)?.[1] ?? [])
      assert.match(links.join("\n"), /^0 -> pipe:\[\d+\]\n1 -> pipe:\[\d+\]\n2 -> pipe:\[\d+\]\n3 -> \/proc\/\d+\/fd$/)
      assert.lengthOf(new Set(links.slice(0, 3).map((link) => link.slice(2))), 3)
    }).pipe(Effect.provide(live())))

  it.live("has sockets if its spec says so", () =>
    Effect.gen(function*() {
      const { end, stderr, stdout } = yield* run(
        shell(name, "cat; readlink /proc/self/fd/1; readlink /proc/self/fd/2 >&2", {
          stdin: "pipe",
          transport: "socket"
        }),
        "in\n"
      )
      assert.match(stdout, /^in\nsocket:\[\d+\]\n$/)
      assert.match(stderr, /^socket:\[\d+\]\n$/)
      assert.deepStrictEqual(end, done)
    }).pipe(Effect.provide(live())))

  for (const transport of ["pipe", "socket"] as const) {
    it.live(`has one ${transport} for both outputs, in the order in which it writes`, () =>
      Effect.gen(function*() {
        const spec = shell(name, "for i in 1 2 3; do echo out $i; echo err $i >&2; done; exit 3", {
          stderr: "stdout",
          transport
        })
        for (const each of [spec, { ...spec, limits: { openFiles: 64 } }]) {
          const { all, end, stderr, stdout } = yield* run(each)
          assert.strictEqual(stdout, "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n")
          assert.deepStrictEqual([all, stderr, end], [stdout, "", new Exited({ code: 3 })])
        }
      }).pipe(Effect.provide(live())))
  }
})

describe("a pipe", () => {
  const others = size(1000, 200)

  /** Leaves a process outside its session that holds both pipes; that prints its id, and then writes all the time. */
  const leaveEscapee = (options: Partial<JobSpec.Options>) =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const script = `require("node:child_process").spawn(
        "sh",
        ["-c", "echo $$; while sleep 0.01; do echo stray; echo stray >&2; done"],
        { detached: true, stdio: "inherit" }
      ).unref()`
      const id = yield* jobs.start(JobSpec.make({ command: process.execPath, args: ["-e", script], ...options }))
      const line = jobs.stdout(id).pipe(Stream.decodeText(), Stream.splitLines, Stream.take(1), Stream.mkString)
      return { id, escapee: Number(yield* line) }
    })

  it.live(
    `that an escapee holds and writes to is nobody else's: ${others} further jobs get not a byte of it`,
    () =>
      Effect.gen(function*() {
        const jobs = yield* JobCoordinator
        const { escapee, id } = yield* leaveEscapee({ drainTimeout: "1 hour" })
        const results = yield* Effect.forEach(
          numbers(others),
          (n) => run(shell("sh", `echo out ${n}; echo err ${n} >&2; cat`, { stdin: "pipe" }), `in ${n}\n`),
          { concurrency: 8 }
        )
        assert.isTrue(Processes.isAlive(escapee))
        Processes.kill(escapee, "SIGKILL")
        assert.deepStrictEqual(
          results.map(({ stderr, stdout }) => [stdout, stderr]),
          numbers(others).map((n) => [`out ${n}\nin ${n}\n`, `err ${n}\n`])
        )
        assert.deepStrictEqual(yield* jobs.wait(id), done)
        assert.match(yield* textOf(jobs.output(id)), /^\d+\n(stray\n)+$/)
      }).pipe(Effect.provide(live())),
    240_000
  )

  it.live("breaks under an escapee once it is cut", () =>
    Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const { escapee, id } = yield* leaveEscapee({ drainTimeout: "50 millis" })
      yield* jobs.wait(id)
      assert.isTrue((yield* jobs.info(id)).output.cut)
      yield* Processes.eventually(() => Processes.isAlive(escapee), (alive) => !alive)
    }).pipe(Effect.provide(live())))
})

describe("the shell that makes pipes", () => {
  it.live("is gone when the layer closes, and has nothing of the host's environment", () =>
    Effect.gen(function*() {
      const before = Processes.pipeMakersOf(process.pid)
      yield* Effect.gen(function*() {
        const makers = Processes.pipeMakersOf(process.pid).filter((pid) => !before.includes(pid))
        assert.lengthOf(makers, 1)
        assert.notInclude(processes.alive(), makers[0])
      }).pipe(Effect.provide(live()))
      yield* Processes.none(() => Processes.pipeMakersOf(process.pid).filter((pid) => !before.includes(pid)))
    }))

  for (const signal of ["SIGKILL", "SIGSTOP"] as const) {
    it.live(`is replaced after a ${signal}: every start goes on, and has pipes`, () =>
      Effect.gen(function*() {
        const before = Processes.pipeMakersOf(process.pid)
        yield* Effect.gen(function*() {
          const maker = () => Processes.pipeMakersOf(process.pid).filter((pid) => !before.includes(pid))
          for (const _ of numbers(2)) {
            const [pid = 0] = maker()
            yield* run(shell("sh", "true"))
            process.kill(pid, signal)
            const results = yield* Effect.forEach(
              numbers(20),
              () => run(shell("sh", "echo out > /dev/stdout")),
              { concurrency: "unbounded" }
            )
            assert.deepStrictEqual(results.map(({ stdout }) => stdout), results.map(() => "out\n"))
            yield* Processes.eventually(maker, (pids) => pids.length === 1 && pids[0] !== pid)
          }
        }).pipe(Effect.provide(live()))
      }))
  }

  const debugging = () => {
    const messages: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      messages.push(`${logLevel.label} ${message}`)
    })
    const layer = Layer.merge(Logger.replace(Logger.defaultLogger, logger), Logger.minimumLogLevel(LogLevel.Debug))
    return { messages, layer }
  }

  /** Programs that are no such shell: one is not there, one leaves at once, one uses files, one never answers. */
  const others = Effect.acquireRelease(
    Effect.sync(() => {
      const directory = Fs.mkdtempSync("/tmp/joblib-")
      const write = (name: string, script: string) => {
        Fs.writeFileSync(`${directory}/${name}`, script, { mode: 0o755 })
        return `${directory}/${name}`
      }
      const files = write(
        "files",
        "#!/bin/sh\nread -r slots; for slot in $slots; do eval \"exec $slot<$0\"; done; echo $slots; cat"
      )
      return {
        directory,
        programs: ["/no/such/shell", "/bin/false", files, write("silent", "#!/bin/sh\nexec cat >&2")]
      }
    }),
    ({ directory }) => Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
  )

  it.scopedLive("that cannot be had is done without, and debug says so once", () =>
    Effect.gen(function*() {
      for (const program of (yield* others).programs) {
        const { layer, messages } = debugging()
        const scope = yield* Scope.make()
        const pipes = yield* Effect.async<Pipes.Pipes>((resume) => {
          const look = () => made !== undefined && made.isReady() && resume(Effect.succeed(made))
          let made: Pipes.Pipes | undefined
          Effect.runFork(
            Pipes.make(look, program).pipe(
              Scope.extend(scope),
              Effect.tap((pipes) =>
                Effect.sync(() => {
                  made = pipes
                  look()
                })
              ),
              Effect.provide(layer)
            )
          )
        })
        assert.isUndefined(pipes.take(2), program)
        assert.isTrue(pipes.isReady())
        yield* Processes.eventually(() => messages.length, (count) => count > 0)
        assert.match(messages.join("\n"), /^DEBUG Jobs get sockets, for there are no pipes: .*$/)
        yield* Scope.close(scope, Exit.void)
      }
    }))
})
