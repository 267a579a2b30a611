import * as Effect from "effect/Effect"

/** Waits until the event loop has been once through what is ready to be read. */
export const nextTurn: Effect.Effect<void> = Effect.async((resume) => {
  const immediate = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(immediate))
})
