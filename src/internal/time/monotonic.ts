import type * as Clock from "effect/Clock"

/** Milliseconds on a clock that never jumps, for deadlines: the time of day may be set while they run. */
export const monotonic = (clock: Clock.Clock): number => Number(clock.unsafeCurrentTimeNanos()) / 1e6
