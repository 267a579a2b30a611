/**
 * Finding a program as `execvp(3)` does, where another program will do that later and could only say so by its exit code.
 */
import * as Fs from "node:fs"

/** Throws what Node would, did it start this file in this directory with this environment. */
export const check = (
  file: string,
  directory: string | undefined,
  env: Readonly<Record<string, string | undefined>>
): void => {
  const errors: Array<unknown> = []
  for (const path of candidates(file, env["PATH"] ?? "/bin:/usr/bin")) {
    try {
      return checkFile(path.startsWith("/") ? path : `${directory ?? "."}/${path}`)
    } catch (error) {
      errors.push(error)
    }
  }
  throw errors.find((error) => codeOf(error) === "EACCES") ?? errors[0]
}

const candidates = (file: string, path: string): ReadonlyArray<string> =>
  file.includes("/") ? [file] : path.split(":").map((directory) => `${directory === "" ? "." : directory}/${file}`)

const checkFile = (path: string) => {
  Fs.accessSync(path, Fs.constants.X_OK)
  if (!Fs.statSync(path).isFile()) throw Object.assign(new Error(`EACCES: not a file, '${path}'`), { code: "EACCES" })
}

const codeOf = (error: unknown): unknown => error instanceof Error && "code" in error ? error.code : undefined
