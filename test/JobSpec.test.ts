import * as Command from "@effect/platform/Command"
import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import * as Sink from "effect/Sink"
import * as Stream from "effect/Stream"
import { inspect } from "node:util"
import { InvalidJobSpec } from "../src/JobError.ts"
import * as JobSpec from "../src/JobSpec.ts"
import { assertBecomesJsonAndBack, throughJson } from "./json.ts"

const Spec = Arbitrary.make(JobSpec.JobSpec)

const Anything = FastCheck.anything({
  withBigInt: true,
  withBoxedValues: true,
  withDate: true,
  withMap: true,
  withNullPrototype: true,
  withObjectString: true,
  withSet: true,
  withSparseArray: true,
  withTypedArray: true
})

/** Options whose fields have the right names, and any value. */
const AnyOptions = FastCheck.record(
  {
    ...Object.fromEntries(Object.keys(JobSpec.JobSpec.fields).map((field) => [field, Anything])),
    command: FastCheck.oneof(FastCheck.string(), Anything),
    stop: FastCheck.oneof(Anything, FastCheck.record({ signal: Anything, gracePeriod: Anything })),
    limits: FastCheck.oneof(Anything, FastCheck.record({ cpuTime: Anything, niceness: Anything }))
  },
  { requiredKeys: [] }
)

/** A spec in which a secret stands where it should not, bare or in something. */
const wrongField = (secret: string) =>
  FastCheck.record({
    field: FastCheck.constantFrom(...Object.keys(JobSpec.JobSpec.fields)),
    inner: FastCheck.constantFrom(undefined, "signal", "gracePeriod", "cpuTime", "niceness", "maxBytes", "A"),
    value: FastCheck.constantFrom<unknown>(secret, [secret], { secret }, [[secret]], [{ secret }], `${secret}\0`)
  }).map(({ field, inner, value }) => ({ command: "a", [field]: inner === undefined ? value : { [inner]: value } }))

/** What comes of options that no compiler has seen. */
const validate = (options: unknown): Either.Either<JobSpec.JobSpec, InvalidJobSpec> =>
  JobSpec.validate(JobSpec.make(options as JobSpec.Options))

describe("JobSpec", () => {
  it("becomes JSON and back", () => assertBecomesJsonAndBack(JobSpec.JobSpec))

  it("keeps times of any length in JSON", () => {
    for (const timeout of [Infinity, 0, 0.5, 1n, "1 nano", "100000 weeks", [3, 7]] as const) {
      const spec = JobSpec.make({ command: "a", timeout })
      assert.deepStrictEqual(throughJson(JobSpec.JobSpec, spec), spec)
    }
  })

  it("has its defaults when decoded", () => {
    assert.deepStrictEqual(Schema.decodeUnknownSync(JobSpec.JobSpec)({ command: "true" }), {
      command: "true",
      args: [],
      env: {},
      extendEnv: true,
      shell: false,
      stdin: "ignore",
      labels: {}
    })
  })

  it("that is wrong is not decoded", () => {
    const decode = Schema.decodeUnknownEither(JobSpec.JobSpec)
    for (const wrong of [{}, { command: "" }, { command: "a", env: { "B=C": "" } }, { command: "a", args: ["\0"] }]) {
      assert.isTrue(Either.isLeft(decode(wrong)))
    }
  })
})

describe("make", () => {
  it("has the defaults that decoding has", () => {
    const decoded = Schema.decodeUnknownSync(JobSpec.JobSpec)({ command: "true" })
    assert.deepStrictEqual(JobSpec.make({ command: "true" }), decoded)
  })

  it("takes times in any way that Effect knows", () => {
    const { drainTimeout, limits, stop, timeout } = JobSpec.make({
      command: "a",
      timeout: "2 minutes",
      stop: { gracePeriod: 1500 },
      drainTimeout: [1, 5],
      limits: { cpuTime: Duration.seconds(3) }
    })
    assert.deepStrictEqual(timeout, Duration.minutes(2))
    assert.deepStrictEqual(stop, { gracePeriod: Duration.millis(1500) })
    assert.deepStrictEqual(drainTimeout, Duration.nanos(1_000_000_005n))
    assert.deepStrictEqual(limits, { cpuTime: Duration.seconds(3) })
  })

  it("takes what is undefined for absent", () => {
    const spec = JobSpec.make({
      command: "a",
      args: undefined,
      cwd: undefined,
      timeout: undefined,
      stop: { signal: undefined, gracePeriod: undefined },
      limits: { memory: undefined, cpuTime: undefined },
      output: { maxBytes: undefined }
    })
    assert.deepStrictEqual(spec, JobSpec.make({ command: "a", stop: {}, limits: {}, output: {} }))
    assert.deepStrictEqual(JobSpec.validate(spec), Either.right(spec))
  })

  it.prop("is the same again for a spec", [Spec], ([spec]) => {
    assert.deepStrictEqual(JobSpec.make(spec), spec)
  })
})

describe("validate", () => {
  it.prop("accepts every spec, and changes none", [Spec], ([spec]) => {
    assert.deepStrictEqual(JobSpec.validate(spec), Either.right(spec))
  })

  it.prop(
    "answers, for any input at all, with a spec that can become JSON or with the field that is wrong",
    [FastCheck.oneof(AnyOptions, Anything)],
    ([options]) =>
      Either.match(validate(options), {
        onLeft: (error) => {
          assert.instanceOf(error, InvalidJobSpec)
          assert.isNotEmpty(error.field)
          assert.isNotEmpty(error.reason)
        },
        onRight: (spec) => {
          throughJson(JobSpec.JobSpec, spec)
        }
      }),
    { fastCheck: { numRuns: 1000 } }
  )

  const wrong: ReadonlyArray<readonly [field: string, options: Record<string, unknown>]> = [
    ["command", { command: undefined }],
    ["command", { command: "" }],
    ["command", { command: "a\0b" }],
    ["command", { command: 5 }],
    ["args", { args: "b" }],
    ["args", { args: null }],
    ["args.1", { args: ["b", "c\0"] }],
    ["args.0", { args: [5] }],
    ["cwd", { cwd: "" }],
    ["cwd", { cwd: "/\0" }],
    ["cwd", { cwd: null }],
    ["env", { env: "A=B" }],
    ["env", { env: ["A=B"] }],
    ["env.A", { env: { A: "\0" } }],
    ["env.A", { env: { A: 5 } }],
    ["env.A", { env: { A: undefined } }],
    ["env.A=…", { env: { "A=B": "" } }],
    ["env.A=…", { env: { "A=B": null } }],
    ["env.\0", { env: { "\0": "" } }],
    ["env.", { env: { "": "" } }],
    ["extendEnv", { extendEnv: "yes" }],
    ["shell", { shell: "" }],
    ["shell", { shell: 1 }],
    ["stdin", { stdin: "inherit" }],
    ["stderr", { stderr: "ignore" }],
    ["transport", { transport: "fifo" }],
    ["timeout", { timeout: -1 }],
    ["timeout", { timeout: NaN }],
    ["timeout", { timeout: -Infinity }],
    ["timeout", { timeout: -1n }],
    ["timeout", { timeout: "-1 seconds" }],
    ["timeout", { timeout: "soon" }],
    ["timeout", { timeout: [-1, 0] }],
    ["timeout", { timeout: [0, NaN] }],
    ["timeout", { timeout: [1, 2, 3] }],
    ["timeout", { timeout: [Symbol(), Object.create(null)] }],
    ["timeout", { timeout: { seconds: 1 } }],
    ["timeout", { timeout: null }],
    ["timeout", { timeout: 1e300 }],
    ["drainTimeout", { drainTimeout: -1 }],
    ["stop", { stop: "SIGTERM" }],
    ["stop.signal", { stop: { signal: "SIGNOTHING" } }],
    ["stop.signal", { stop: { signal: 9 } }],
    ["stop.gracePeriod", { stop: { gracePeriod: "-1 seconds" } }],
    ["limits", { limits: 5 }],
    ["limits.cpuTime", { limits: { cpuTime: -1 } }],
    ["limits.memory", { limits: { memory: 0 } }],
    ["limits.memory", { limits: { memory: Infinity } }],
    ["limits.openFiles", { limits: { openFiles: 0.5 } }],
    ["limits.fileSize", { limits: { fileSize: -1 } }],
    ["limits.processes", { limits: { processes: 0 } }],
    ["limits.coreSize", { limits: { coreSize: "0" } }],
    ["limits.niceness", { limits: { niceness: 20 } }],
    ["limits.niceness", { limits: { niceness: -21 } }],
    ["output", { output: 5 }],
    ["output.maxBytes", { output: { maxBytes: 0 } }],
    ["output.maxBytes", { output: { maxBytes: NaN } }],
    ["labels", { labels: ["a"] }],
    ["labels.a", { labels: { a: 1 } }]
  ]

  it.each(wrong)("names %s as what is wrong in %o", (field, options) => {
    assert.strictEqual(Either.getOrThrow(Either.flip(validate({ command: "a", ...options }))).field, field)
  })

  it("says what is right", () => {
    const reasons = [
      { timeout: -1 },
      { stop: { signal: "KILL" } },
      { stdin: "inherit" },
      { stderr: "2" },
      { transport: "tcp" },
      { env: { "A=B": "" } }
    ].map((options) => Either.getOrThrow(Either.flip(validate({ command: "a", ...options }))).message)
    assert.deepStrictEqual(reasons, [
      "Invalid job spec: timeout: must be a duration, such as \"5 seconds\", and not negative",
      "Invalid job spec: stop.signal: must be the name of a signal, such as \"SIGTERM\"",
      "Invalid job spec: stdin: must be \"ignore\" or \"pipe\"",
      "Invalid job spec: stderr: must be \"pipe\" or \"stdout\"",
      "Invalid job spec: transport: must be \"pipe\" or \"socket\"",
      "Invalid job spec: env.A=…: must have a name that is not empty and has no \"=\" and no NUL character in it"
    ])
  })

  it("tells no value, of whatever field", () => {
    const secret = 998_877
    for (
      const options of [
        { env: { PIN: secret } },
        { env: { [`PIN=${secret}`]: "" } },
        { env: secret },
        { env: [secret] },
        { args: [secret] },
        { args: `${secret}` },
        { args: [`${secret}\0`] },
        { command: { secret } },
        { command: `${secret}\0` },
        { cwd: secret },
        { labels: { a: secret } },
        { limits: { memory: -secret } }
      ]
    ) {
      const error = Either.getOrThrow(Either.flip(validate({ command: "a", ...options })))
      assert.notInclude(inspect(error) + JSON.stringify(error) + error.message, `${secret}`)
    }
  })

  it("answers for what is no spec at all", () => {
    for (const nothing of [undefined, null, 5, "true", [], () => 1]) {
      assert.isTrue(Either.isLeft(validate(nothing)))
    }
  })
})

describe("FromJson", () => {
  const decode = Schema.decodeUnknownEither(JobSpec.FromJson)

  it.prop("reads what it writes", [Spec], ([spec]) => {
    assert.deepStrictEqual(throughJson(JobSpec.FromJson, spec), spec)
  })

  it.prop("reads all that make and validate accept, and says the same of the rest", [AnyOptions], ([options]) => {
    const expected = Either.mapLeft(validate(options), ({ field, reason }) => [field, reason])
    const found = Either.mapLeft(decode(options), (error) => {
      const [issue] = ParseResult.ArrayFormatter.formatErrorSync(error)
      return [issue?.path.join("."), issue?.message]
    })
    // It knows more fields that do not exist.
    if (Either.isLeft(found) && found.left[1] === "there is no such field") return
    assert.deepStrictEqual<unknown>(found, expected)
  }, { fastCheck: { numRuns: 500 } })

  it("needs no more than a command", () => {
    assert.deepStrictEqual(decode({ command: "true" }), Either.right(JobSpec.make({ command: "true" })))
  })

  it.each<readonly [string | number, Duration.DurationInput]>([
    ["30 seconds", "30 seconds"],
    ["1h30m", "90 minutes"],
    ["1d 2h", "26 hours"],
    ["1.5h", "90 minutes"],
    ["500ms", 500],
    ["500 ms", 500],
    ["0s", 0],
    ["1m0.25s", 60_250],
    [500, 500],
    [0.5, "500 micros"],
    ["7 nanos", 7n],
    ["Infinity", Infinity]
  ])("takes %o as a time", (written, time) => {
    const spec = decode({
      command: "a",
      timeout: written,
      stop: { gracePeriod: written },
      limits: { cpuTime: written }
    })
    assert.deepStrictEqual(
      spec,
      Either.right(
        JobSpec.make({ command: "a", timeout: time, stop: { gracePeriod: time }, limits: { cpuTime: time } })
      )
    )
  })

  const wrong: ReadonlyArray<readonly [path: ReadonlyArray<string>, written: object]> = [
    [["tiemout"], { tiemout: 5 }],
    [["stop", "grace"], { stop: { grace: 5 } }],
    [["limits", "cpu"], { limits: { cpu: 5 } }],
    [["output", "max"], { output: { max: 5 } }],
    [["__proto__"], JSON.parse(`{ "__proto__": {} }`)],
    [["constructor"], { constructor: 1 }],
    [["timeout"], { timeout: "soon" }],
    [["timeout"], { timeout: "-1s" }],
    [["timeout"], { timeout: "1h-30m" }],
    [["timeout"], { timeout: "" }],
    [["timeout"], { timeout: "5 parsecs" }],
    [["timeout"], { timeout: "99999999999999999h" }],
    [["timeout"], { timeout: null }],
    [["stop"], { stop: null }],
    [["env", "A.B"], { env: { "A.B": 5 } }],
    [["args", "0"], { args: [5] }]
  ]

  it.each(wrong)("names %o as what is wrong in %o", (path, written) => {
    const spec = Object.defineProperties({ command: "a" }, Object.getOwnPropertyDescriptors(written))
    const error = Either.getOrThrow(Either.flip(decode(spec)))
    const [issue, ...others] = ParseResult.ArrayFormatter.formatErrorSync(error)
    assert.deepStrictEqual<unknown>(issue?.path, path)
    assert.isEmpty(others)
  })

  it.each([[5], ["a"], [null], [undefined], [[]], [[{ command: "a" }]]])("does not take %o", (written) => {
    assert.match(Either.getOrThrow(Either.flip(decode(written))).message, /must be an object with a command/)
  })

  it.prop("never shows what stands in a wrong field", [wrongField("hunter2")], ([options]) => {
    const errors: ReadonlyArray<Either.Either<Error, JobSpec.JobSpec>> = [
      Either.flip(decode(options)),
      Either.flip(validate(options))
    ]
    const messages = errors.flatMap((error) =>
      Either.isRight(error) ? [error.right.message, String(error.right), JSON.stringify(error.right)] : []
    )
    for (const message of messages) assert.notInclude(message, "hunter2")
  }, { fastCheck: { numRuns: 500 } })
})

describe("fromCommand", () => {
  const cat = Command.make("cat", "a", "b")
  const sink: Sink.Sink<Uint8Array, Uint8Array> = Sink.as(Sink.drain, new Uint8Array())

  it("keeps what a Command says", () => {
    // Every version of the platform takes it in this form.
    const command = Object.assign(Command.env(cat, { A: "1" }), { extendEnv: false }).pipe(
      Command.workingDirectory("/tmp"),
      Command.runInShell("/bin/bash")
    )
    assert.deepStrictEqual(
      JobSpec.fromCommand(command),
      Either.right(JobSpec.make({
        command: "cat",
        args: ["a", "b"],
        env: { A: "1" },
        extendEnv: false,
        cwd: "/tmp",
        shell: "/bin/bash"
      }))
    )
  })

  it("ignores standard input, be it the pipe that a Command has by default or nothing", () => {
    const ignores = Either.right(JobSpec.make({ command: "cat", args: ["a", "b"], stdin: "ignore" }))
    assert.deepStrictEqual(JobSpec.fromCommand(cat), ignores)
    assert.deepStrictEqual(JobSpec.fromCommand(Command.stdin(cat, Stream.empty)), ignores)
  })

  it.each<readonly [field: string, Command.Command]>([
    ["command", Command.pipeTo(cat, Command.make("wc"))],
    ["stdin", Command.feed(cat, "text")],
    ["stdin", Command.stdin(cat, Stream.make(new Uint8Array(1)))],
    ["stdin", Command.stdin(cat, "inherit")],
    ["stdout", Command.stdout(cat, "inherit")],
    ["stdout", Command.stdout(cat, sink)],
    ["stderr", Command.stderr(cat, "inherit")],
    ["stderr", Command.stderr(cat, sink)]
  ])("refuses a %s that a job cannot keep", (field, command) => {
    const error = Either.getOrThrow(Either.flip(JobSpec.fromCommand(command)))
    assert.strictEqual(error.field, field)
  })

  it("refuses another user or group", () => {
    for (const as of [{ uid: Option.some(1) }, { gid: Option.some(1) }]) {
      const error = Either.getOrThrow(Either.flip(JobSpec.fromCommand(Object.assign(Command.make("id"), as))))
      assert.strictEqual(error.field, "uid")
    }
  })
})

describe("toCommand", () => {
  it.prop("says all that a Command can say", [Spec], ([spec]) => {
    const { args, command, cwd, extendEnv, shell } = spec
    const env = JobSpec.environment({ env: spec.env, extendEnv: false }, {})
    const unsets = Object.values(spec.env).includes(null)
    assert.deepStrictEqual(
      JobSpec.fromCommand(JobSpec.toCommand({ ...spec, stdin: "ignore" }, {})),
      Either.right(JobSpec.make({ args, command, cwd, env, extendEnv: extendEnv && !unsets, shell }))
    )
  })

  it("spells the environment out where a variable must go", () => {
    const spec = JobSpec.make({ command: "a", env: { B: null, C: "c" } })
    const command = JobSpec.toCommand(spec, { A: "a", B: "b" })
    assert.deepStrictEqual(
      JobSpec.fromCommand(command),
      Either.right(JobSpec.make({ command: "a", env: { A: "a", C: "c" }, extendEnv: false }))
    )
  })

  it("takes this process's own environment unless told otherwise", () => {
    const spec = Either.getOrThrow(
      JobSpec.fromCommand(JobSpec.toCommand(JobSpec.make({ command: "a", env: { NOT_THERE: null } })))
    )
    assert.deepStrictEqual<unknown>(spec.env, { ...process.env })
  })

  it("closes standard input, unless the spec asks for a pipe", () => {
    const stdinOf = (stdin: "ignore" | "pipe") => {
      const [command] = Command.flatten(JobSpec.toCommand(JobSpec.make({ command: "cat", stdin })))
      return command.stdin
    }
    assert.strictEqual(stdinOf("pipe"), "pipe")
    assert.strictEqual(stdinOf("ignore"), Stream.empty)
  })

  it("takes more arguments than a call can", () => {
    const args = Array<string>(1_000_000).fill("")
    const [command] = Command.flatten(JobSpec.toCommand(JobSpec.make({ command: "a", args })))
    assert.strictEqual(command.args.length, args.length)
  })
})

describe("environment", () => {
  const host = { A: "host", B: "host", C: undefined }

  it("is the host's with what the spec sets, and without what it unsets", () => {
    const env = { B: "spec", A: null, D: "", NOT_THERE: null }
    assert.deepStrictEqual(JobSpec.environment({ env, extendEnv: true }, host), { B: "spec", D: "" })
  })

  it("is the spec's alone unless it extends the host's", () => {
    const env = { B: "spec", A: null }
    assert.deepStrictEqual(JobSpec.environment({ env, extendEnv: false }, host), { B: "spec" })
  })

  it("changes neither of the two", () => {
    const spec = JobSpec.make({ command: "a", env: { A: null, B: "spec" } })
    JobSpec.environment(spec, host)
    assert.deepStrictEqual(spec.env, { A: null, B: "spec" })
    assert.deepStrictEqual(host, { A: "host", B: "host", C: undefined })
  })
})
