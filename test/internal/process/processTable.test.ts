import { afterEach, describe, expect, it, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as ProcessTable from "../../../src/internal/process/processTable.ts"
import * as Processes from "../../fixtures/processes.ts"

/** A line of `/proc/<pid>/stat`, as Linux 6 writes it. */
const stat = (options: { readonly name?: string; readonly state: string; readonly threads?: number }) =>
  `4711 (${options.name ?? "sh"}) ${options.state} 1 4242 4242 0 -1 4194304 187 0 0 0 0 0 0 0 20 0 ${
    options.threads ?? 1
  } 0 345051 2768896 368 18446744073709551615 94 94 140 0 0 0 0 0 0 1 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n`

afterEach(() => {
  vi.restoreAllMocks()
})

describe("parseStat", () => {
  it("tells the group, and whether it lives", () => {
    for (const state of ["R", "S", "D", "T", "t", "I"]) {
      expect(ProcessTable.parseStat(stat({ state }))).toEqual({ group: 4242, alive: true })
    }
    for (const state of ["Z", "X", "x"]) {
      expect(ProcessTable.parseStat(stat({ state }))).toEqual({ group: 4242, alive: false })
    }
  })

  it("takes any name", () => {
    for (const name of ["a b", "(sd-pam)", ") Z 1 1", "", "a) S 1 9 9", "\n"]) {
      expect(ProcessTable.parseStat(stat({ name, state: "S" }))).toEqual({ group: 4242, alive: true })
    }
  })

  it("holds a process for alive whose first thread has left, but not its others", () => {
    expect(ProcessTable.parseStat(stat({ state: "Z", threads: 3 }))).toEqual({ group: 4242, alive: true })
  })

  it("knows nothing of a process that left while it was read", () => {
    expect(ProcessTable.parseStat("")).toBeUndefined()
    expect(ProcessTable.parseStat("4711 (sh")).toBeUndefined()
  })
})

describe("ProcessTable", () => {
  it.live("counts the members of each group", () =>
    Effect.gen(function*() {
      const child = spawn("sh", ["-c", "sleep 600 & sleep 600 & echo; wait"], {
        detached: true,
        stdio: ["ignore", "pipe", "ignore"]
      })
      yield* Effect.promise(() => once(child.stdout, "data"))
      const table = yield* ProcessTable.make
      expect((yield* table.snapshot()).get(child.pid ?? 0)).toEqual({ alive: 3, zombies: 0 })
      Processes.kill(-(child.pid ?? 0), "SIGKILL")
      yield* Effect.promise(() => once(child, "exit"))
    }))

  it.live("makes one snapshot for all, for ten times the processor time it took; another only for who asks for another", () =>
    Effect.gen(function*() {
      let now = 10
      vi.spyOn(performance, "now").mockImplementation(() => now)
      vi.spyOn(process, "cpuUsage").mockReturnValue({ user: 3000, system: 7000 })
      const table = yield* ProcessTable.make
      const [first, ...others] = yield* Effect.all(Array.from({ length: 50 }, () => table.snapshot()), {
        concurrency: "unbounded"
      })
      expect(new Set(others)).toEqual(new Set([first]))
      now = 109
      expect(yield* table.snapshot()).toBe(first)
      const second = yield* table.snapshot(first)
      expect(second).not.toBe(first)
      now = 120
      const third = yield* table.snapshot(second)
      expect(yield* table.snapshot()).toBe(third)
      now = 220
      expect(yield* table.snapshot()).not.toBe(third)
    }))
})
