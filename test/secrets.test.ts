/**
 * What a job runs may hold secrets: no error, in any form in which it may be shown, no log and no span tells of its
 * arguments, its environment or the line of its shell.
 */
import * as NodeContext from "@effect/platform-node/NodeContext"
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Tracer from "effect/Tracer"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { inspect } from "node:util"
import { JobCoordinator } from "../src/JobCoordinator.ts"
import * as JobSpec from "../src/JobSpec.ts"
import * as NodeProcessSpawner from "../src/NodeProcessSpawner.ts"
import * as ProcessSpawner from "../src/ProcessSpawner.ts"
import * as SimulatedProcesses from "../src/SimulatedProcesses.ts"
import { over } from "./utils.ts"

const secret = "hunter2"

const failing: Record<string, JobSpec.Options> = {
  "a missing program": { command: "joblib-no-such-program" },
  "a missing program, with limits": { command: "joblib-no-such-program", limits: { openFiles: 64 } },
  "a file that is no program": { command: "/dev/null" },
  "a whole line for a program": { command: `mysql --password=${secret}` },
  "a whole line for a program, with limits": { command: `mysql --password=${secret}`, limits: { openFiles: 64 } },
  "a whole line that begins with a variable": { command: `PASSWORD=${secret} psql` },
  "a whole line for a shell's name": { command: "true", shell: `/joblib/no/such/shell ${secret}` },
  "a missing directory": { command: "true", cwd: "/joblib/no/such/directory" },
  "a directory that is a file": { command: "true", cwd: "/dev/null" },
  "too many arguments": { command: "true", args: [secret.repeat(1_000_000)] },
  "an argument that is no string": { command: "true", args: [{ secret } as never] },
  "an argument with a NUL": { command: "true", args: [`${secret}\0`] },
  "a variable that is no string": { command: "true", env: { PIN: { secret } as never } },
  "a variable whose name holds its value": { command: "true", env: { [`PIN=${secret}`]: "" } },
  "a shell's line in a missing directory": { command: `echo ${secret}`, shell: true, cwd: "/joblib/no/such/directory" },
  "a shell's line for a missing shell": { command: `echo ${secret}`, shell: "/joblib/no/such/shell" },
  "a shell's line that is too long": { command: `echo ${secret.repeat(1_000_000)}`, shell: true }
}

/** Whatever a program may make of an error, deliberately or not. */
const shown = (error: Error): ReadonlyArray<string> => [
  error.message,
  String(error),
  String(error.stack),
  inspect(error, { depth: 10, showHidden: true }),
  JSON.stringify(error),
  JSON.stringify({ ...error }),
  inspect({ ...error }, { depth: 10, showHidden: true }),
  String(error.cause),
  inspect(error.cause, { depth: 10, showHidden: true }),
  Cause.pretty(Cause.fail(error), { renderErrorCause: true }),
  Cause.pretty(Cause.die(error), { renderErrorCause: true })
]

/** Collects whatever spans and loggers of all kinds are told. */
const recorder = () => {
  const told: Array<string> = []
  const tracer = Tracer.make({
    context: (run) => run(),
    span: (name, parent, context, links, startTime, kind) => {
      const attributes = new Map<string, unknown>()
      return {
        _tag: "Span",
        name,
        spanId: "span",
        traceId: "trace",
        parent,
        context,
        status: { _tag: "Started", startTime },
        attributes,
        links,
        sampled: true,
        kind,
        attribute: (key, value) => {
          attributes.set(key, value)
        },
        event: (name, _, attributes) => {
          told.push(name, inspect(attributes, { depth: 10 }))
        },
        addLinks: () => {},
        end: (_, exit) => {
          told.push(inspect([name, ...attributes, exit], { depth: 10 }))
          if (Exit.isFailure(exit)) told.push(Cause.pretty(exit.cause, { renderErrorCause: true }))
        }
      }
    }
  })
  const loggers = [Logger.stringLogger, Logger.logfmtLogger, Logger.jsonLogger, Logger.structuredLogger]
  const logger = Logger.make((options) => {
    for (const each of loggers) told.push(inspect(each.log(options), { depth: 10 }))
  })
  const layer = Layer.mergeAll(
    Logger.replace(Logger.defaultLogger, logger),
    Logger.minimumLogLevel(LogLevel.All),
    Layer.setTracer(tracer)
  )
  return { told, layer }
}

const spawners = {
  NodeProcessSpawner: NodeProcessSpawner.layer,
  layerCommandExecutor: Layer.provide(ProcessSpawner.layerCommandExecutor, NodeContext.layer)
}

describe.each(Object.entries(spawners))("%s", (_, spawner) => {
  it.live.each(Object.entries(failing))("tells no secret when a start fails by %s", ([, options]) => {
    const { layer, told } = recorder()
    return Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      const spec = JobSpec.make({
        ...options,
        args: options.args ?? ["--password", secret],
        env: { TOKEN: secret, ...options.env }
      })
      const error = yield* Effect.flip(jobs.start(spec)).pipe(Effect.tap((error) => Effect.logError("failed", error)))
      yield* Effect.logError(Cause.fail(error))
      for (const text of [...shown(error), ...told]) expect(text).not.toContain(secret)
      expect(told.join()).toContain("failed")
    }).pipe(Effect.provide(over(spawner)), Effect.provide(layer))
  })

  it.live("tells no secret of a job that runs and ends", () => {
    const { layer, told } = recorder()
    return Effect.gen(function*() {
      const jobs = yield* JobCoordinator
      for (const options of [{ command: "false" }, { command: `exit 3 # ${secret}`, shell: true }]) {
        yield* jobs.wait(yield* jobs.start(JobSpec.make({ ...options, args: [secret], env: { TOKEN: secret } })))
      }
      expect(told.join()).toContain("false")
      for (const text of told) expect(text).not.toContain(secret)
    }).pipe(Effect.provide(over(spawner)), Effect.provide(layer))
  })
})

it.live("a simulated start that fails tells no secret either", () =>
  Effect.gen(function*() {
    const jobs = yield* JobCoordinator
    for (const shell of [true, false]) {
      const error = yield* Effect.flip(jobs.start(JobSpec.make({ command: `curl --user ${secret}`, shell })))
      for (const text of shown(error)) expect(text).not.toContain(secret)
    }
  }).pipe(Effect.provide(over(SimulatedProcesses.layer({})))))

it.scopedLive("a start error names the interpreter that a script lacks", () =>
  Effect.gen(function*() {
    const jobs = yield* JobCoordinator
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => Fs.mkdtempSync(Path.join(tmpdir(), "joblib-"))),
      (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
    )
    Fs.writeFileSync(Path.join(directory, "script"), `#! /joblib/no/such/interpreter ${secret}\n`, { mode: 0o755 })
    for (
      const options of [
        { command: "script", env: { PATH: directory } },
        { command: "./script", cwd: directory },
        { command: `${directory}/script` }
      ]
    ) {
      const error = yield* Effect.flip(jobs.start(JobSpec.make(options)))
      expect(error).toMatchObject({ reason: "NotFound", path: "/joblib/no/such/interpreter" })
      expect(error.message).toContain("it takes \"/joblib/no/such/interpreter\" to run, which is missing")
      for (const text of shown(error)) expect(text).not.toContain(secret)
    }
  }).pipe(Effect.provide(over(NodeProcessSpawner.layer))))
