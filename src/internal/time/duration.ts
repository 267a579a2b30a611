/**
 * Durations as people give them. Effect takes what is negative, and `NaN`, for zero: a typing error in a grace period
 * would be SIGKILL at once.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

/** A duration of 0 or more, if that is what the input says. */
export const decode = (input: unknown): Option.Option<Duration.Duration> =>
  isNegative(input) ? Option.none() : Duration.decodeUnknown(input)

const isNegative = (input: unknown): boolean => {
  switch (typeof input) {
    case "number":
    case "bigint":
      return !(input >= 0)
    case "string":
      return input.trimStart().startsWith("-")
    default:
      return Array.isArray(input) && input.some((part) => typeof part === "number" && !(part >= 0))
  }
}
