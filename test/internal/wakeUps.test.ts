import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { WakeUps } from "../../src/internal/wakeUps.ts"

describe("wakeUps", () => {
  it.live("a listener that takes no wake-up keeps none from the others", () =>
    Effect.gen(function*() {
      const wakeUps = new WakeUps(yield* Effect.runtime<never>())
      yield* wakeUps.listen
      const { wait } = yield* wakeUps.listen
      for (const atOnce of [false, true, false, true, false, true]) {
        wakeUps.announce(atOnce)
        yield* wait
      }
    }), 10_000)
})
