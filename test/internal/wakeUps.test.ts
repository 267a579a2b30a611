import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { WakeUps } from "../../src/internal/wakeUps.ts"

describe("wakeUps", () => {
  it.scopedLive("a subscriber that takes no wake-up keeps none from the others", () =>
    Effect.gen(function*() {
      const wakeUps = new WakeUps(yield* Effect.runtime<never>())
      yield* wakeUps.subscribe
      const wait = yield* wakeUps.subscribe
      for (const atOnce of [false, true, false, true, false, true]) {
        wakeUps.announce(atOnce)
        yield* wait
      }
    }), 10_000)
})
