/**
 * What the jobs run, as a program and its arguments. They are found on every Linux and faster than whoever reads them.
 */

export type Program = readonly [command: string, ...args: ReadonlyArray<string>]

export const nothing: Program = ["true"]

export const sleep: Program = ["sleep", "3600"]

/** Writes so many blocks of 64 KiB, each in one write. */
export const blocks = (count: number): Program => ["dd", "if=/dev/zero", "bs=65536", `count=${count}`, "status=none"]

/** Writes a multiple of 819 lines of 80 bytes, each in one write; `dd` reads 819 of them at once, for speed. */
export const lines = (count: number): Program => [
  "dd",
  "if=/dev/zero",
  "ibs=65520",
  "obs=80",
  `count=${Math.ceil(count / 819)}`,
  "status=none"
]

export const bytes = (count: number): Program => ["head", "-c", String(count), "/dev/zero"]
