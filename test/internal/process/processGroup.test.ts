import { afterEach, describe, expect, it, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import { ProcessGroup } from "../../../src/internal/process/processGroup.ts"
import type { Members, Snapshot } from "../../../src/internal/process/processTable.ts"

const id = 4242

const alive: Members = { alive: 1, zombies: 1 }
const zombies: Members = { alive: 0, zombies: 2 }

/** A group about which the kernel answers so, and `/proc` as the snapshots say, the last again and again. */
const make = (answer: "exists" | "ESRCH" | "EPERM", members: ReadonlyArray<Members | undefined> = []) => {
  const kernel = { answer }
  const sent: Array<[number, string | number]> = []
  vi.spyOn(process, "kill").mockImplementation((pid, signal = "SIGTERM") => {
    if (signal !== 0) sent.push([pid, signal])
    if (kernel.answer === "exists") return true
    throw Object.assign(new Error(kernel.answer), { code: kernel.answer })
  })
  const snapshots = members.map((each): Snapshot => new Map(each === undefined ? [] : [[id, each]]))
  let next = 0
  const gone: Array<number> = []
  const snapshot = () => Effect.sync(() => snapshots[Math.min(next++, snapshots.length - 1)] ?? new Map())
  const group = new ProcessGroup(id, { snapshot }, (id) => gone.push(id))
  return { group, sent, gone, kernel, scans: () => next }
}

afterEach(() => {
  vi.restoreAllMocks()
})

describe("ProcessGroup", () => {
  it.effect("exists as long as its leader has not been reaped, whatever the kernel says", () =>
    Effect.gen(function*() {
      const { gone, group, scans } = make("ESRCH")
      expect(yield* group.isGone).toBe(false)
      group.signal("SIGTERM")
      expect(yield* group.isGone).toBe(false)
      expect([gone, scans()]).toEqual([[], 0])
    }))

  it.effect("is gone at once when its leader was the last, and nobody looks into /proc for it", () =>
    Effect.gen(function*() {
      const { gone, group, scans } = make("ESRCH")
      group.leaderHasExited()
      expect(gone).toEqual([id])
      expect(yield* group.isGone).toBe(true)
      yield* group.awaitGone
      expect([gone, scans()]).toEqual([[id], 0])
    }))

  it.effect("gets no signal any more once it was seen to be gone, for its number may be taken anew", () =>
    Effect.gen(function*() {
      const { group, kernel, sent } = make("ESRCH")
      group.leaderHasExited()
      kernel.answer = "exists"
      group.signal("SIGKILL")
      expect(yield* group.isGone).toBe(true)
      expect(sent).toEqual([])
    }))

  it.effect("is not gone while a member is alive, and is looked at ever more rarely, at most every 50 ms", () =>
    Effect.gen(function*() {
      const { group, kernel, scans } = make("exists", [alive])
      group.leaderHasExited()
      const waiting = yield* Effect.fork(group.awaitGone)
      const scansAt: Array<number> = []
      for (const delay of [0, 1, 2, 4, 8, 16, 32, 50, 50, 50]) {
        yield* TestClock.adjust(delay)
        scansAt.push(scans())
      }
      expect(scansAt).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
      kernel.answer = "ESRCH"
      yield* TestClock.adjust(50)
      yield* Fiber.join(waiting)
    }))

  it.effect("of which two snapshots show zombies alone is gone, after a SIGKILL to whoever hides from both", () =>
    Effect.gen(function*() {
      const { gone, group, scans, sent } = make("exists", [zombies, zombies])
      group.leaderHasExited()
      expect(yield* group.isGone).toBe(true)
      expect(scans()).toBe(2)
      expect(sent).toEqual([[-id, "SIGKILL"]])
      expect(gone).toEqual([id])
    }))

  it.effect("is judged anew when a member shows itself between two snapshots", () =>
    Effect.gen(function*() {
      const { group, scans, sent } = make("exists", [zombies, alive, zombies, undefined, zombies, zombies])
      group.leaderHasExited()
      expect(yield* Effect.replicateEffect(group.isGone, 2)).toEqual([false, false])
      expect([sent, scans()]).toEqual([[], 4])
      expect(yield* group.isGone).toBe(true)
    }))

  it.effect("is not judged by one snapshot twice, however many ask", () =>
    Effect.gen(function*() {
      const { sent } = make("exists")
      const first = new Map([[id, zombies]])
      const second = new Map([[id, alive]])
      const snapshot = (otherThan?: Snapshot) => Effect.as(Effect.yieldNow(), otherThan === undefined ? first : second)
      const group = new ProcessGroup(id, { snapshot }, () => {})
      group.leaderHasExited()
      expect(yield* Effect.all([group.isGone, group.isGone], { concurrency: "unbounded" })).toEqual([false, false])
      expect(sent).toEqual([])
    }))

  it.effect("of which /proc shows nothing, or of which no member may be signalled, exists as the kernel says", () =>
    Effect.gen(function*() {
      for (const answer of ["exists", "EPERM"] as const) {
        const { group } = make(answer, [undefined])
        group.leaderHasExited()
        expect(yield* Effect.replicateEffect(group.isGone, 3)).toEqual([false, false, false])
      }
    }))

  it.effect("lets those who wait for it give up", () =>
    Effect.gen(function*() {
      const { group } = make("ESRCH")
      const waiting = yield* Effect.fork(group.awaitGone)
      const givingUp = yield* Effect.fork(group.awaitGone)
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(givingUp)
      group.leaderHasExited()
      yield* Fiber.join(waiting)
    }))
})
