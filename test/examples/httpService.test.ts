/**
 * The service as a process of its own that is told to end by SIGINT, as Ctrl-C does.
 */
import { afterAll, assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs"
import { Agent, type IncomingMessage, request } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Hosts from "../fixtures/hosts.ts"
import * as Processes from "../fixtures/processes.ts"

const token = `service-${randomUUID()}`
afterAll(() => assert.isEmpty(Processes.carrying(token)))

const directory = mkdtempSync(join(tmpdir(), "joblib-"))
afterAll(() => rmSync(directory, { recursive: true }))
/** A pipe that holds a job until something is written to it. */
const gate = join(directory, "gate")
execFileSync("mkfifo", [gate])
const opener = openSync(gate, "r+")
afterAll(() => closeSync(opener))

/** Browsers and most clients keep a connection for the next request. */
const agent = new Agent({ keepAlive: true })
afterAll(() => agent.destroy())

const host = fileURLToPath(new URL("../fixtures/httpHost.ts", import.meta.url))

interface Service {
  readonly process: ChildProcess
  readonly port: number
  readonly exited: Effect.Effect<number | NodeJS.Signals>
  /** All that it has logged. */
  readonly log: () => string
}

const launch = Effect.sync(() => {
  const child = spawn(process.execPath, ["--import", "tsx", host], {
    env: { ...process.env, PORT: "0", HOST_TOKEN: token, GATE: gate },
    stdio: ["ignore", "pipe", "pipe"]
  })
  let log = ""
  child.stdout.on("data", (bytes) => log += bytes)
  child.stderr.on("data", (bytes) => log += bytes)
  return { process: child, exited: Hosts.waitForExit(child), log: () => log }
})

const killAll = Effect.sync(() => Processes.carrying(token).forEach((pid) => Processes.kill(pid, "SIGKILL")))

const service: Effect.Effect<Service, never, Scope.Scope> = Effect.gen(function*() {
  const launched = yield* Effect.acquireRelease(launch, () => killAll)
  const [, port] = yield* Effect.raceFirst(
    Hosts.waitForOutput(launched.process.stdout)(/http:\/\/127\.0\.0\.1:(\d+)/),
    Effect.flatMap(launched.exited, () => Effect.die(new Error(launched.log())))
  )
  return { ...launched, port: Number(port) }
})

const open = ({ port }: Service, method: string, path: string, headers: Record<string, string> = {}) =>
  Effect.async<IncomingMessage, Error>((resume) => {
    request({ port, host: "127.0.0.1", method, path, headers, agent }, (response) => resume(Effect.succeed(response)))
      .on("error", (error) => resume(Effect.fail(error))).end()
  })

/** The whole text of a response; of one that is broken off, what came. */
const textOf = (response: IncomingMessage) =>
  Effect.async<string>((resume) => {
    let text = ""
    response.setEncoding("utf8")
    response.on("data", (part) => text += part)
    response.on("close", () => resume(Effect.succeed(text)))
  })

const call = (service: Service, method: string, path: string, headers?: Record<string, string>) =>
  Effect.gen(function*() {
    const response = yield* open(service, method, path, headers)
    const text = yield* textOf(response)
    return { status: response.statusCode, text, body: text.startsWith("{") ? JSON.parse(text) : undefined }
  })

const startJob = (service: Service, name: string) =>
  Effect.map(call(service, "POST", `/jobs/${name}`), ({ body }) => String(body.id))

interface Event {
  readonly id: string | undefined
  readonly event: string | undefined
  readonly data: string
}

const eventsOf = (text: string): ReadonlyArray<Event> =>
  text.split("\n\n").slice(0, -1).map((block) => {
    const fields = new Map(
      block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)])
    )
    return { id: fields.get("id"), event: fields.get("event"), data: fields.get("data") ?? "" }
  })

const decode = (events: ReadonlyArray<Event>, source = /^std/): string =>
  events.filter(({ event = "" }) => source.test(event)).map(({ data }) => Buffer.from(data, "base64").toString()).join(
    ""
  )

/** Reads the events of a stream until they satisfy, and then breaks it off. */
const readUntil = (response: IncomingMessage, isEnough: (events: ReadonlyArray<Event>) => boolean) =>
  Effect.async<ReadonlyArray<Event>>((resume) => {
    let text = ""
    response.setEncoding("utf8")
    const look = (part: string) => {
      text += part
      const events = eventsOf(text)
      if (!isEnough(events)) return
      response.off("data", look)
      response.destroy()
      resume(Effect.succeed(events))
    }
    response.on("data", look)
  })

describe("the HTTP service", () => {
  it.scopedLive("gives the output of a job as events, and goes on after the last that a client has had", () =>
    Effect.gen(function*() {
      const running = yield* service
      const id = yield* startJob(running, "lines")
      const whole = eventsOf((yield* call(running, "GET", `/jobs/${id}/output`)).text)
      const expected = (name: string) => Array.from({ length: 200 }, (_, i) => `${name} ${i}\n`).join("")
      assert.strictEqual(decode(whole, /^stdout$/), expected("out"))
      assert.strictEqual(decode(whole, /^stderr$/), expected("err"))
      assert.deepStrictEqual(whole.at(-1), { id: undefined, event: "end", data: "exited with code 0" })
      const all = decode(whole)
      let had = 0
      for (const event of whole.slice(0, -1)) {
        had += Buffer.from(event.data, "base64").length
        const rest = yield* call(running, "GET", `/jobs/${id}/output`, { "last-event-id": event.id ?? "" })
        assert.strictEqual(decode(eventsOf(rest.text)), all.slice(had))
      }

      const ticks = yield* startJob(running, "ticks")
      let text = ""
      let lastId = "0"
      for (let i = 1; i <= 5; i++) {
        const stream = yield* open(running, "GET", `/jobs/${ticks}/output`, { "last-event-id": lastId })
        const events = yield* readUntil(stream, (events) => events.length >= i)
        text += decode(events)
        lastId = events.at(-1)?.id ?? ""
      }
      const lines = text.split("\n").slice(0, -1)
      assert.deepStrictEqual(lines, lines.map((_, i) => `tick ${i}`))
      assert.isAbove(lines.length, 5)
      const stopped = yield* call(running, "DELETE", `/jobs/${ticks}`)
      assert.deepStrictEqual(stopped.body, { status: "killed by SIGTERM" })
    }))

  it.scopedLive("refuses what is wrong, and tells nothing of its programs", () =>
    Effect.gen(function*() {
      const running = yield* service
      const id = yield* startJob(running, "lines")
      const stranger = randomUUID()
      yield* call(running, "GET", `/jobs/${id}/output`)
      const answers = [
        yield* call(running, "POST", "/jobs/nothing"),
        yield* call(running, "POST", "/jobs/__proto__"),
        yield* call(running, "POST", "/jobs/missing"),
        yield* call(running, "GET", `/jobs/${stranger}/output`),
        yield* call(running, "GET", "/jobs/1/output"),
        yield* call(running, "GET", `/jobs/${id}/output`, { "last-event-id": "soon" }),
        yield* call(running, "DELETE", `/jobs/${stranger}`),
        yield* call(running, "DELETE", `/jobs/${id}`),
        yield* call(running, "GET", "/")
      ]
      assert.deepStrictEqual(answers.map(({ status }) => status), [404, 404, 500, 404, 400, 400, 404, 409, 404])
      for (const text of [running.log(), ...answers.map(({ text }) => text)]) {
        assert.notMatch(text, /hunter|no\/such/)
      }
    }))

  it.scopedLive("ends at Ctrl-C with ten streams open, each of which gets everything and the true end of its job", () =>
    Effect.gen(function*() {
      const running = yield* service
      // None of these ends by itself: if the service waited for them, it would wait for ever.
      const ids = yield* Effect.forEach(["ticks", "ticks", "ticks", "ticks"], (name) => startJob(running, name))
      const streams = yield* Effect.forEach(
        Array.from({ length: 10 }, (_, i) => ids[i % 4]),
        (id) =>
          Effect.gen(function*() {
            const response = yield* open(running, "GET", `/jobs/${id}/output`)
            return yield* Effect.fork(textOf(response))
          })
      )
      running.process.kill("SIGINT")
      const texts = yield* Effect.forEach(streams, (fiber) => fiber)
      assert.isNumber(yield* running.exited)
      for (const text of texts) {
        const events = eventsOf(text)
        assert.deepStrictEqual(events.at(-1), { id: undefined, event: "end", data: "killed by SIGTERM" })
        const lines = decode(events).split("\n").slice(0, -1)
        assert.deepStrictEqual(lines, lines.map((_, i) => `tick ${i}`))
      }
      assert.isEmpty(Processes.carrying(token))
      assert.notMatch(running.log() + texts.join(""), /hunter/)
    }))

  it.scopedLive("refuses requests while its jobs have their time to end, and then ends", () =>
    Effect.gen(function*() {
      const running = yield* service
      const id = yield* startJob(running, "lingers")
      const response = yield* open(running, "GET", `/jobs/${id}/output`)
      const says = Hosts.waitForOutput(response)
      const text = yield* Effect.fork(textOf(response))
      const said = (what: string) => says(new RegExp(Buffer.from(what).toString("base64")))
      yield* said("up\n")
      running.process.kill("SIGINT")
      yield* said("closing\n")
      const answer = yield* call(running, "POST", "/jobs/ticks")
      assert.deepStrictEqual([answer.status, answer.body], [503, { error: "CoordinatorStopped" }])
      writeSync(opener, "open\n")
      assert.deepInclude(eventsOf(yield* text).at(-1), { event: "end", data: "exited with code 7" })
      assert.isNumber(yield* running.exited)
      assert.isEmpty(Processes.carrying(token))
    }))

  it.scopedLive("does not wait for a client that does not read", () =>
    Effect.gen(function*() {
      const running = yield* service
      const id = yield* startJob(running, "floods")
      const response = yield* open(running, "GET", `/jobs/${id}/output`)
      response.pause()
      response.on("error", () => {})
      running.process.kill("SIGINT")
      assert.isNumber(yield* running.exited)
      assert.isEmpty(Processes.carrying(token))
    }))
})
