/**
 * Plain Node, in a process that has loaded nothing else.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"

const atOnce = 8

/** Milliseconds for each of so many calls of a function, by eight runners that take the next call when one is done. */
export const repeat = async (count: number, run: () => Promise<unknown>): Promise<number> => {
  const start = performance.now()
  let left = count
  const runner = async () => {
    while (left-- > 0) await run()
  }
  await Promise.all(Array.from({ length: atOnce }, runner))
  return (performance.now() - start) / count
}

/** Starts `true`, listens to both pipes, and waits for its end. */
export const start = (): Promise<unknown> => {
  const child = spawn("true", [], { detached: true, stdio: ["ignore", "pipe", "pipe"] })
  child.stdout.on("data", () => {})
  child.stderr.on("data", () => {})
  return once(child, "close")
}
