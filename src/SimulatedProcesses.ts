/**
 * Processes that follow a script, for tests. Nothing is started, and all time is that of Effect's `Clock`. Under
 * `TestClock` a job of an hour takes milliseconds, and the same program leaves the same trace every time it runs.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import { nameOf } from "./internal/process/programName.ts"
import { type Action, canonical, type Course, type Program } from "./internal/simulation/member.ts"
import { Simulation } from "./internal/simulation/simulatedProcess.ts"
import { JobStartError, type JobStartReason } from "./JobError.ts"
import type { JobSpec } from "./JobSpec.ts"
import { Exited, type FatalSignal, Killed, type Signal } from "./JobStatus.ts"
import type { OutputSource } from "./Output.ts"
import { ProcessSpawner } from "./ProcessSpawner.ts"

/**
 * What a process does. Its actions happen in order: output first, then the end. `at` says how long after the start of
 * the process, at the earliest. Without `at`, an action follows the one before it at once. What is due at the start
 * happens before `spawn` returns.
 *
 * - `output` (default none): what it writes, and when.
 * - `end`: how it ends by itself; default: it runs until a signal ends it.
 * - `ignores` (default none): signals that do nothing to it. SIGKILL, SIGSTOP and SIGCONT cannot be ignored.
 * - `onSignal` (default none): what it does each time one of these signals comes, instead of dying of it. What it was
 *   doing goes on meanwhile. SIGKILL and SIGSTOP cannot be caught.
 * - `onInput`: what it does when a line of its standard input comes. The keys are lines without their `\n`, and `"*"`
 *   is any other line; or it is a function of the line. The process reads the next line when it has done all of that.
 *   Text without a `\n` before the end of the input is a line too.
 * - `onInputEnd`: what it does at the end of its input, after all lines. If its spec asks for no pipe, that is at once.
 * - `closesInput` (default `false`): it closes its standard input when it starts.
 * - `failsToStart`: it never starts, and `start` fails with a `JobStartError` of this reason.
 * - `children` (default none): processes that start with it, and live on when it ends.
 *
 * @since 0.1.0
 * @category models
 */
export interface Script {
  readonly output?: ReadonlyArray<Write> | undefined
  readonly end?: End | undefined
  readonly ignores?: ReadonlyArray<Signal> | undefined
  readonly onSignal?: { readonly [S in Signal]?: Reaction | undefined } | undefined
  readonly onInput?: Readonly<Record<string, Reaction>> | ((line: string) => Reaction) | undefined
  readonly onInputEnd?: Reaction | undefined
  readonly closesInput?: boolean | undefined
  readonly failsToStart?: JobStartReason | undefined
  readonly children?: ReadonlyArray<Child> | undefined
}

/**
 * What a process does when something comes to it: output first, then its end, if there is one. `at` counts from when it
 * came.
 *
 * @since 0.2.0
 * @category models
 */
export interface Reaction {
  /** What it writes then. Default: nothing. */
  readonly output?: ReadonlyArray<Write> | undefined
  /** How it ends then. Default: it goes on. */
  readonly end?: End | undefined
}

/**
 * Something that the process writes.
 *
 * - `at`: how long after the start of the process, or after what a `Reaction` is about, at the earliest; default: at
 *   once after what comes before.
 * - `source` (default `"stdout"`): the pipe.
 * - `data`: bytes, or text, which is written as UTF-8.
 *
 * It is read in pieces of 64 KiB at most. The pipes have no room of their own: when their reader pauses, the process
 * waits with what it has yet to write, and with everything that comes after it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Write {
  readonly at?: Duration.DurationInput | undefined
  readonly source?: OutputSource | undefined
  readonly data: string | Uint8Array
}

/**
 * The end of a process by itself: an exit with a code, or a death by a signal. `at` is as in `Write`.
 *
 * @since 0.1.0
 * @category models
 */
export type End =
  | { readonly at?: Duration.DurationInput | undefined; readonly code: number }
  | { readonly at?: Duration.DurationInput | undefined; readonly signal: Signal }

/**
 * A process that the job's program starts. It does not read standard input.
 *
 * - `escaped` (default `false`): it has left the process group, with its own children, and no signal to the job reaches
 *   it.
 * - `holdsPipes` (default: whether it has `output`): it holds the pipes of the job, which end only when every process
 *   that holds them has ended. The job's program always holds them.
 *
 * @since 0.1.0
 * @category models
 */
export interface Child extends Script {
  readonly escaped?: boolean | undefined
  readonly holdsPipes?: boolean | undefined
}

/**
 * Something that happened. `at` is in milliseconds since the layer was built.
 *
 * - `Spawned` and `Exited` are of one process each. The first process has the pid 1000, the next 1001, and a child
 *   comes after its parent. A child has the `command` of its job. `signal` is the signal that killed it, if one did.
 * - `Signalled` is of one signal to a process group of which a process was alive. Its pid is that of the job.
 *
 * Processes that are left when the scope of a job closes are killed. That shows as `Exited` alone, because nobody sent
 * a signal.
 *
 * @since 0.1.0
 * @category models
 */
export interface TraceEntry {
  readonly at: number
  readonly _tag: "Spawned" | "Signalled" | "Exited"
  /** The simulated process, or for a signal the process group. */
  readonly pid: number
  readonly command: string
  readonly signal?: FatalSignal
}

/**
 * What a test can ask of its simulated processes.
 *
 * @since 0.2.0
 * @category models
 */
export interface Service {
  /** Everything that has happened until now, in order. */
  readonly trace: Effect.Effect<ReadonlyArray<TraceEntry>>
}

/**
 * The tag of the simulated processes.
 *
 * @since 0.1.0
 * @category models
 */
export class SimulatedProcesses extends Context.Tag("joblib/SimulatedProcesses")<SimulatedProcesses, Service>() {}

/**
 * A `ProcessSpawner` of simulated processes. `scripts` has a script for each `command` of a `JobSpec`, or a function
 * that is called at each start and makes a script from the spec. `"*"` is the script of all other commands. Without it
 * they fail to start with `NotFound`, and the error's cause says which commands there are. The time is that of the
 * `Clock` where the layer is built.
 *
 * Signals do what they do to a real job. A process that is stopped by SIGSTOP does nothing until SIGCONT. Then it gets
 * the signals that came meanwhile and catches up with its script. A process that writes after its output was cut gets
 * SIGPIPE. If a program does not read its standard input, a writer waits once 64 KiB are there. Limits do nothing.
 *
 * End a simulated job that ignores SIGTERM before the coordinator's layer closes. Under `TestClock`, closing would wait
 * for a clock that nobody moves.
 *
 * @example
 * import { Effect, Fiber, Layer, TestClock, TestContext } from "effect"
 * import { JobCoordinator, JobSpec, JobStatus, SimulatedProcesses } from "effect-joblib"
 * import { deepEqual } from "node:assert"
 *
 * // What is to be tested: a build that may take ten minutes.
 * const build = Effect.gen(function*() {
 *   const jobs = yield* JobCoordinator.JobCoordinator
 *   const id = yield* jobs.start(JobSpec.make({ command: "npm", args: ["run", "build"], timeout: "10 minutes" }))
 *   return yield* jobs.wait(id)
 * })
 *
 * // An npm that says hello and then hangs.
 * const TestLayer = JobCoordinator.layer.pipe(
 *   Layer.provideMerge(SimulatedProcesses.layer({ npm: { output: [{ data: "hello\n" }] } }))
 * )
 *
 * // The body of an `it.effect`, which provides the TestContext by itself.
 * const test = Effect.gen(function*() {
 *   const fiber = yield* Effect.fork(build)
 *   yield* TestClock.adjust("10 minutes")
 *   deepEqual(yield* Fiber.join(fiber), new JobStatus.Killed({ signal: "SIGTERM" }))
 *
 *   const processes = yield* SimulatedProcesses.SimulatedProcesses
 *   deepEqual(yield* processes.trace, [
 *     { at: 0, _tag: "Spawned", pid: 1000, command: "npm" },
 *     { at: 600_000, _tag: "Signalled", pid: 1000, command: "npm", signal: "SIGTERM" },
 *     { at: 600_000, _tag: "Exited", pid: 1000, command: "npm", signal: "SIGTERM" }
 *   ])
 * })
 *
 * Effect.runPromise(test.pipe(Effect.provide(TestLayer), Effect.provide(TestContext.TestContext)))
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  scripts: Readonly<Record<string, Script | ((spec: JobSpec) => Script)>>
): Layer.Layer<ProcessSpawner | SimulatedProcesses> =>
  Layer.scopedContext(Effect.gen(function*() {
    const clock = yield* Effect.clock
    const fork = Runtime.runFork(yield* Effect.runtime())
    const builtAt = clock.unsafeCurrentTimeMillis()
    const trace: Array<TraceEntry> = []
    const simulation = new Simulation({
      clock,
      fork,
      record: (event) => trace.push({ at: clock.unsafeCurrentTimeMillis() - builtAt, ...event })
    })
    yield* Effect.addFinalizer(() => Effect.sync(() => simulation.close()))

    const spawner = ProcessSpawner.of({
      guarantee: "group",
      spawn: (spec, listener) =>
        Effect.acquireRelease(
          Effect.map(
            programOf(scripts, spec),
            (program) => simulation.spawn(spec, program, listener)
          ),
          (process) => process.release
        )
    })
    return Context.make(ProcessSpawner, spawner).pipe(
      Context.add(SimulatedProcesses, { trace: Effect.sync(() => trace.slice()) })
    )
  }))

/** Whatever is wrong with a script in ways that its type does not show is an error too: a time that is none, a throw. */
const programOf = (
  scripts: Readonly<Record<string, Script | ((spec: JobSpec) => Script)>>,
  spec: JobSpec
): Effect.Effect<Program, JobStartError> => {
  const fail = (reason: JobStartReason, cause: unknown) => new JobStartError({ reason, command: nameOf(spec), cause })
  return Effect.flatten(Effect.try({
    try: () => {
      const scripted = entry(scripts, spec.command)
      if (scripted === undefined) {
        const commands = Object.keys(scripts).map((command) => JSON.stringify(command)).join(", ")
        return Effect.fail(
          fail("NotFound", new Error(`no script for this command; there are scripts for: ${commands}`))
        )
      }
      const script = typeof scripted === "function" ? scripted(spec) : scripted
      return script.failsToStart === undefined
        ? Effect.succeed({
          ...toProgram({ ...script, escaped: false, holdsPipes: true }, false),
          input: toInput(script),
          closesInput: script.closesInput === true
        })
        : Effect.fail(fail(script.failsToStart, new Error("its script says so")))
    },
    catch: (cause) => fail("Unknown", cause)
  }))
}

/** The entry of this name, or that of all others. */
const entry = <A>(entries: Readonly<Record<string, A>>, name: string): A | undefined =>
  Object.hasOwn(entries, name) ? entries[name] : Object.hasOwn(entries, "*") ? entries["*"] : undefined

const toProgram = (script: Child, parentEscaped: boolean): Program => {
  const escaped = parentEscaped || script.escaped === true
  return {
    actions: toActions(script),
    ignores: new Set(script.ignores?.map(canonical)),
    onSignal: new Map(
      Object.entries(script.onSignal ?? {}).flatMap(([name, reaction]) => {
        const signal = canonical(name as Signal)
        return reaction === undefined ? [] : [[signal, toReaction(signal, reaction)]]
      })
    ),
    input: undefined,
    closesInput: false,
    escaped,
    holdsPipes: script.holdsPipes ?? (script.output?.length ?? 0) > 0,
    children: (script.children ?? [])
      .filter((child) => child.failsToStart === undefined)
      .map((child) => toProgram(child, escaped))
  }
}

/** Who gets SIGPIPE has nobody to write to: writing on would bring the next one. */
const toReaction = (signal: Signal, reaction: Reaction): Course =>
  toActions(signal === "SIGPIPE" ? { end: reaction.end } : reaction)

const toInput = ({ onInput, onInputEnd }: Script): Program["input"] => {
  if (onInput === undefined && onInputEnd === undefined) return undefined
  const onEnd = toActions(onInputEnd ?? {})
  if (typeof onInput === "function") return { onLine: (line) => toActionsOrCrash(() => onInput(line)), onEnd }
  const courses = Object.fromEntries(
    Object.entries(onInput ?? {}).map(([line, reaction]) => [line, toActions(reaction)])
  )
  return { onLine: (line) => entry(courses, line) ?? [], onEnd }
}

/** Where a program throws, it says so and aborts. */
const toActionsOrCrash = (reaction: () => Reaction): Course => {
  try {
    return toActions(reaction())
  } catch (error) {
    const data = error instanceof Error ? `${error.name}: ${error.message}\n` : "onInput has thrown\n"
    return toActions({ output: [{ source: "stderr", data }], end: { signal: "SIGABRT" } })
  }
}

const toActions = (script: Reaction): Course => {
  const actions: Array<Action> = []
  let at = 0
  for (const write of script.output ?? []) {
    at = Math.max(at, Duration.toMillis(write.at ?? 0))
    for (const bytes of readsOf(write.data)) {
      actions.push({ _tag: "Write", at, source: write.source ?? "stdout", bytes })
    }
  }
  if (script.end !== undefined) {
    at = Math.max(at, Duration.toMillis(script.end.at ?? 0))
    actions.push({ _tag: "End", at, status: toStatus(script.end) })
  }
  return actions
}

const toStatus = (end: End): Exited | Killed =>
  "code" in end ? new Exited({ code: end.code }) : new Killed({ signal: canonical(end.signal) })

const bytesPerRead = 64 * 1024

/** Copies, because what is read belongs to its reader. */
const readsOf = (data: string | Uint8Array): ReadonlyArray<Uint8Array> => {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : new Uint8Array(data)
  return Array.from(
    { length: Math.ceil(bytes.length / bytesPerRead) },
    (_, index) => bytes.slice(index * bytesPerRead, (index + 1) * bytesPerRead)
  )
}
