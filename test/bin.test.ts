import { type ChildProcess, spawn } from "node:child_process"
import { createHash, randomBytes } from "node:crypto"
import { once } from "node:events"
import { mkdtemp, realpath, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { text } from "node:stream/consumers"
import { setTimeout } from "node:timers/promises"
import { describe, expect, it } from "vitest"
import { project } from "./docs/examples.ts"

const bin = join(project, "dist", "bin.js")

/** Starts the built command, with an input that stays open. */
const start = (args: ReadonlyArray<string>) => spawn(process.execPath, [bin, ...args])

const exit = async (child: ChildProcess): Promise<number | string> => {
  const [code, signal] = child.exitCode === null && child.signalCode === null
    ? await once(child, "exit")
    : [child.exitCode, child.signalCode]
  return code ?? signal
}

/** Runs the built command to its end. */
const joblib = async (args: ReadonlyArray<string>, input?: Uint8Array) => {
  const child = start(args)
  // A program may leave before it has read everything.
  child.stdin.on("error", () => {}).end(input)
  const [stdout, stderr, code] = await Promise.all([bytes(child.stdout), text(child.stderr), exit(child)])
  return { stdout, stderr, code }
}

const bytes = async (stream: AsyncIterable<Uint8Array>) => {
  const chunks: Array<Uint8Array> = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks)
}

const run = (...program: ReadonlyArray<string>) => joblib(["run", "--", ...program])

const sha256 = (data: Uint8Array | string) => createHash("sha256").update(data).digest("hex")

/** Waits until a process is no more: reaped, and not only dead. */
const gone = async (pid: number): Promise<void> => {
  try {
    process.kill(pid, 0)
  } catch {
    return
  }
  await setTimeout(10)
  return gone(pid)
}

describe("output", () => {
  it("is the program's, byte for byte, on both streams", async () => {
    const program = `
      const { createHash } = require("node:crypto")
      const bytes = (seed, count) => Buffer.concat(Array.from({ length: count / 32 }, (_, i) =>
        createHash("sha256").update(seed + i).digest()))
      process.stdout.write(bytes("out", 4 * 1024 * 1024))
      process.stderr.write(bytes("err", 2 * 1024 * 1024))`
    const expected = (seed: string, count: number) =>
      Buffer.concat(
        Array.from({ length: count / 32 }, (_, i) => createHash("sha256").update(seed + i).digest())
      )
    const child = start(["run", "--", process.execPath, "-e", program])
    const [stdout, stderr, code] = await Promise.all([bytes(child.stdout), bytes(child.stderr), exit(child)])
    expect(code).toBe(0)
    expect([stdout.length, sha256(stdout)]).toEqual([4 * 1024 * 1024, sha256(expected("out", 4 * 1024 * 1024))])
    expect([stderr.length, sha256(stderr)]).toEqual([2 * 1024 * 1024, sha256(expected("err", 2 * 1024 * 1024))])
  })

  it("of more than memory keeps arrives whole, at the pace of its reader", async () => {
    const size = 100 * 1024 * 1024
    const child = start(["run", "--", "head", "-c", String(size), "/dev/zero"])
    let received = 0
    child.stdout.on("data", (chunk: Buffer) => {
      received += chunk.length
      child.stdout.pause()
      setImmediate(() => child.stdout.resume())
    })
    await once(child.stdout, "end")
    expect([received, await exit(child)]).toEqual([size, 0])
  })

  it("that nobody reads any more stops the program", async () => {
    const child = start(["run", "--", "yes"])
    await once(child.stdout, "data")
    child.stdout.destroy()
    expect([await text(child.stderr), await exit(child)]).toEqual(["", 143])
  })

  it("that cannot be written is an error, and stops the program", async () => {
    const { code, stderr } = await joblib([
      "run",
      "--",
      "sh",
      "-c",
      `exec "$0" "$@" >/dev/full`,
      process.execPath,
      bin,
      "run",
      "--",
      "yes"
    ])
    expect(code).toBe(125)
    expect(stderr).toMatch(/^joblib: Cannot write to stdout: .*ENOSPC.*\n$/)
  })
})

describe("the exit code", () => {
  it.each([0, 1, 7, 124, 255])("is the program's: %i", async (code) => {
    expect(await run("sh", "-c", `exit ${code}`)).toMatchObject({ code, stderr: "" })
  })

  it.each([["KILL", 137], ["SEGV", 139], ["HUP", 129], ["USR1", 138]])("after SIG%s is %i", async (signal, code) => {
    expect(await run("sh", "-c", `kill -s ${signal} $$`)).toMatchObject({ code, stderr: "" })
  })
})

describe("a program that cannot be run gives 125 and one line", () => {
  it.each<[string, ReadonlyArray<string>, RegExp]>([
    ["a missing program", ["run", "--", "no-such-program"], /"no-such-program".*NotFound/],
    ["a missing directory", ["run", "--cwd", "/no/such/directory", "--", "true"], /InvalidDirectory/],
    ["a file as directory", ["run", "--cwd", "/etc/passwd", "--", "true"], /InvalidDirectory/],
    ["a directory as program", ["run", "--", "/tmp"], /PermissionDenied/],
    ["an empty name", ["run", "--", ""], /command: must not be empty/],
    ["no program", ["run"], /after two dashes/],
    ["no program after the dashes", ["run", "--"], /after two dashes/],
    ["a program without dashes", ["run", "ls", "-l"], /'ls'\. What to run goes after two dashes/],
    ["an unknown option", ["run", "--wat", "--", "true"], /--wat/],
    ["an option without its value", ["run", "--timeout", "--", "true"], /timeout/],
    ["a time that is none", ["run", "--timeout", "soon", "--", "true"], /--timeout takes a time .*"soon"/],
    ["a negative time", ["run", "--grace", "-5s", "--", "true"], /--grace takes a time/],
    ["a negative time in words", ["run", "--grace", "-5 seconds", "--", "true"], /--grace takes a time/],
    ["a time without its unit", ["run", "--timeout", "5", "--", "true"], /--timeout takes a time/],
    ["a variable without a value", ["run", "--env", "NAME", "--", "true"], /--env takes NAME=VALUE, not "NAME"/],
    ["a variable without a name", ["run", "--env", "=secret", "--", "true"], /--env takes NAME=VALUE(?!.*secret)/],
    ["an unknown command", ["walk"], /use 'run'/]
  ])("%s", async (_, args, line) => {
    const { code, stderr, stdout } = await joblib(args)
    expect([code, stdout.toString()]).toEqual([125, ""])
    expect(stderr).toMatch(/^joblib: [^\n]+\n$/)
    expect(stderr).toMatch(line)
  })
})

describe("the command line", () => {
  it("gives the program all that follows the dashes as it is", async () => {
    const args = ["--help", "-h", "--version", "run", "--", "--timeout", "1s", "", "a b", "$HOME", "*", "\u00e9\n"]
    const { stdout } = await run(
      process.execPath,
      "-e",
      "console.log(JSON.stringify(process.argv.slice(1)))",
      "--",
      ...args
    )
    expect(JSON.parse(stdout.toString())).toEqual(args)
  })

  it("sets variables on top of the environment", async () => {
    const { stdout } = await joblib(
      [
        "run",
        "--env",
        "A=1",
        "--env",
        "B=x=y z",
        "--env",
        "A=2",
        "--env",
        "C=",
        "--",
        "sh",
        "-c",
        "echo \"$A,$B,${C-unset},$PATH\""
      ]
    )
    expect(stdout.toString()).toBe(`2,x=y z,,${process.env["PATH"]}\n`)
  })

  it("sets the working directory", async () => {
    const directory = await realpath(await mkdtemp(join(tmpdir(), "joblib-bin-")))
    try {
      const { stdout } = await joblib(["run", "--cwd", directory, "--", "pwd"])
      expect(stdout.toString()).toBe(`${directory}\n`)
    } finally {
      await rm(directory, { recursive: true })
    }
  })

  it("knows its version and its options", async () => {
    expect((await joblib(["--version"])).stdout.toString().trim()).toMatch(/^\d+\.\d+\.\d+$/)
    const { code, stdout } = await joblib(["run", "--help"])
    expect(code).toBe(0)
    for (const option of ["--timeout", "--grace", "--env", "--cwd"]) expect(stdout.toString()).toContain(option)
  })
})

describe("times", () => {
  it.each(["200ms", "0.2s", "200 millis", "0.2 seconds"])("a timeout of %s stops the program", async (timeout) => {
    expect(await joblib(["run", "--timeout", timeout, "--", "sleep", "300"])).toMatchObject({ code: 143, stderr: "" })
  })

  it("a program that ignores SIGTERM is killed when its grace is over", async () => {
    const program = "trap '' TERM; while :; do sleep 0.05; done"
    const { code } = await joblib(["run", "--timeout", "100ms", "--grace", "200ms", "--", "sh", "-c", program])
    expect(code).toBe(137)
  })
})

describe("signals", () => {
  /** Starts a program that says when it is ready, with its pid. */
  const ready = async (args: ReadonlyArray<string>) => {
    const child = start(args)
    const [line] = await once(child.stderr, "data")
    return { child, pid: Number(String(line)) }
  }

  it.each([["SIGINT", 130], ["SIGTERM", 143]] as const)(
    "%s ends the program, and the command with %i",
    async (signal, code) => {
      const { child, pid } = await ready(["run", "--", "sh", "-c", "echo $$ >&2; exec sleep 300"])
      child.kill(signal)
      expect(await exit(child)).toBe(code)
      await gone(pid)
    }
  )

  it.each(["INT", "TERM"] as const)("SIG%s reaches a program that handles it", async (signal) => {
    const program = `trap 'echo ${signal}; exit 3' ${signal}; echo $$ >&2; while :; do sleep 0.05; done`
    const { child } = await ready(["run", "--grace", "1h", "--", "sh", "-c", program])
    child.kill(`SIG${signal}`)
    expect([await text(child.stdout), await exit(child)]).toEqual([`${signal}\n`, 3])
  })

  it("a second one kills the program at once", async () => {
    const program = `trap 'echo INT' INT; echo $$ >&2; while :; do sleep 0.05; done`
    const { child } = await ready(["run", "--grace", "1h", "--", "sh", "-c", program])
    child.kill("SIGINT")
    await once(child.stdout, "data")
    child.kill("SIGTERM")
    expect(await exit(child)).toBe(137)
  })

  it("are heard while nobody reads the output; one after the program's end gives up what is left of it", async () => {
    const { child, pid } = await ready(["run", "--", "sh", "-c", "echo $$ >&2; exec yes"])
    child.kill("SIGTERM")
    await gone(pid)
    child.kill("SIGTERM")
    expect(await exit(child)).toBe(143)
  })

  it("nothing that the program started is left after it", async () => {
    const { code, stdout } = await run("sh", "-c", "sleep 300 & echo $!; exit 5")
    expect(code).toBe(5)
    await gone(Number(stdout))
  })
})

describe("input", () => {
  it("reaches the program byte for byte, and its end too", async () => {
    const input = randomBytes(5 * 1024 * 1024)
    const { code, stdout } = await joblib(["run", "--", "cat"], input)
    expect([code, stdout.length, sha256(stdout)]).toEqual([0, input.length, sha256(input)])
  })

  it("that nobody closes keeps no program waiting that does not read it", async () => {
    expect(await exit(start(["run", "--", "true"]))).toBe(0)
  })

  it("may be more than the program wants", async () => {
    const { code, stdout } = await joblib(["run", "--", "head", "-c", "3"], Buffer.alloc(4 * 1024 * 1024, "x"))
    expect([code, stdout.toString()]).toEqual([0, "xxx"])
  })
})
