/**
 * Sleeps that may be longer than a timer of the platform: beyond 2³¹ − 1 ms (24.8 days) `Effect.sleep` never ends.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

const longest = Duration.millis(2 ** 31 - 1)

export const sleep = (duration: Duration.Duration): Effect.Effect<void> =>
  Duration.lessThanOrEqualTo(duration, longest)
    ? Effect.sleep(duration)
    : Effect.zipRight(Effect.sleep(longest), Effect.suspend(() => sleep(Duration.subtract(duration, longest))))
