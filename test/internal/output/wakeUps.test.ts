import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { WakeUps } from "../../../src/internal/output/wakeUps.ts"
import { settle } from "../../utils.ts"

describe("wakeUps", () => {
  it.live("a listener that takes no wake-up keeps none from the others", () =>
    Effect.gen(function*() {
      const wakeUps = new WakeUps(yield* Effect.runtime<never>(), yield* Effect.clock)
      yield* wakeUps.listen
      const { wait } = yield* wakeUps.listen
      for (const atOnce of [false, true, false, true, false, true]) {
        wakeUps.announce(atOnce)
        yield* wait
      }
    }))

  it.effect("a slow listener is woken in the next turn all the same, under a clock that stands still", () =>
    Effect.gen(function*() {
      const wakeUps = new WakeUps(yield* Effect.runtime<never>(), yield* Effect.clock)
      const { wait } = yield* wakeUps.listen
      let woken = 0
      const work = Effect.sync(() => {
        woken++
        const started = performance.now()
        while (performance.now() - started < 20);
      })
      yield* Effect.fork(Effect.forever(Effect.zipRight(wait, work)))
      yield* settle
      for (let announced = 1; announced <= 3; announced++) {
        wakeUps.announce()
        yield* Effect.zipRight(settle, settle)
        assert.strictEqual(woken, announced)
      }
    }))
})
