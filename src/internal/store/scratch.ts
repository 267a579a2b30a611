/**
 * Memory to join parts in, which is used again: new megabytes for each write cost more than to copy them.
 */
import * as Effect from "effect/Effect"

/** Bytes of what is kept to be used again, and how much of it there is. What is smaller or larger is made anew. */
const minSize = 64 * 1024
const maxSize = 8 * 1024 * 1024
const maxCount = 2

const free: Array<Uint8Array> = []
let made = 0

/** Uses parts as one. */
export const joined = <A, E>(
  parts: ReadonlyArray<Uint8Array>,
  use: (bytes: Uint8Array) => Effect.Effect<A, E>
): Effect.Effect<A, E> => {
  if (parts.length === 1 && parts[0] !== undefined) return use(parts[0])
  const size = parts.reduce((size, part) => size + part.length, 0)
  return Effect.acquireUseRelease(
    Effect.sync(() => take(size)),
    (scratch) => {
      let position = 0
      for (const part of parts) {
        scratch.set(part, position)
        position += part.length
      }
      return use(scratch.subarray(0, size))
    },
    (scratch) =>
      Effect.sync(() => {
        if (scratch.length === maxSize && free.length < maxCount) free.push(scratch)
      })
  )
}

const take = (size: number): Uint8Array => {
  if (size < minSize || size > maxSize) return new Uint8Array(size)
  const scratch = free.pop()
  if (scratch !== undefined) return scratch
  return made++ < maxCount ? new Uint8Array(maxSize) : new Uint8Array(size)
}
