/**
 * The examples in the documentation: found, type-checked and run, each as a module of its own that sees the built
 * package as a user would.
 *
 * In Markdown, a block is `ts`, or `sh`, which runs in an empty directory with `joblib` in its PATH; `sh not-run` is
 * left alone. In a source file, it is what follows `@example` in a doc comment, up to the next tag.
 */
import { execFile } from "node:child_process"
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { delimiter, dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"

export const project = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

export interface Example {
  /** `README.md:12`: the file, and the line before the first line of the code. */
  readonly name: string
  readonly language: "ts" | "sh"
  /** Preceded by empty lines, so that whatever counts its lines counts those of the file. */
  readonly code: string
}

const example = (
  file: string,
  language: Example["language"],
  lines: ReadonlyArray<string>,
  start: number,
  end: number
) => ({ name: `${file}:${start}`, language, code: "\n".repeat(start) + lines.slice(start, end).join("\n") + "\n" })

export const inMarkdown = async (file: string): Promise<ReadonlyArray<Example>> => {
  const lines = (await readFile(join(project, file), "utf8")).split("\n")
  const found: Array<Example> = []
  for (let start = 0; start < lines.length; start++) {
    const [, fence, info = ""] = /^(`{3,})(.*)$/.exec(lines[start] ?? "") ?? []
    if (fence === undefined) continue
    const end = lines.indexOf(fence, start + 1)
    if (end === -1) throw new Error(`${file}:${start + 1}: this block has no end`)
    if (info === "ts" || info === "sh") found.push(example(file, info, lines, start + 1, end))
    start = end
  }
  return found
}

export const inSource = async (file: string): Promise<ReadonlyArray<Example>> => {
  const lines = (await readFile(join(project, file), "utf8")).split("\n")
  const inComment = lines.map((line) => /^\s*\* ?(?!\/)(.*)$/.exec(line)?.[1])
  const found: Array<Example> = []
  inComment.forEach((text, tag) => {
    if (!text?.startsWith("@example")) return
    const length = inComment.slice(tag + 1).findIndex((line) => line === undefined || line.startsWith("@"))
    found.push(example(file, "ts", inComment.map((line) => line ?? ""), tag + 1, tag + 1 + length))
  })
  return found
}

export const sources = async (): Promise<ReadonlyArray<string>> =>
  (await readdir(join(project, "src"), { recursive: true })).filter((file) => file.endsWith(".ts")).sort()
    .map((file) => `src/${file}`)

const compilerOptions: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2022,
  lib: ["lib.es2022.d.ts"],
  module: ts.ModuleKind.NodeNext,
  types: ["node"],
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  skipLibCheck: true,
  inlineSourceMap: true,
  noEmitOnError: false
}

/** A directory outside the project, in whose `node_modules` are the project's own dependencies and the project. */
export const makeConsumer = async (): Promise<string> => {
  const directory = await mkdtemp(join(tmpdir(), "joblib-docs-"))
  const modules = join(directory, "node_modules")
  await mkdir(modules)
  await mkdir(join(directory, "bin"))
  await writeFile(join(directory, "package.json"), `{ "type": "module" }`)
  const dependencies = (await readdir(join(project, "node_modules"))).filter((name) => !name.startsWith("."))
  await Promise.all(dependencies.map((name) => symlink(join(project, "node_modules", name), join(modules, name))))
  await symlink(project, join(modules, "effect-joblib"))
  await writeFile(
    join(directory, "bin", "joblib"),
    `#!/bin/sh\nexec "${process.execPath}" "${join(project, "dist", "bin.js")}" "$@"\n`,
    { mode: 0o755 }
  )
  return directory
}

const moduleName = (example: Example) => example.name.replaceAll(/[/:]/g, "_")

/** Type-checks all examples in TypeScript and compiles them. Gives what is wrong with each, by its name. */
export const compile = async (
  consumer: string,
  examples: ReadonlyArray<Example>
): Promise<ReadonlyMap<string, string>> => {
  const names = new Map(
    examples.filter(({ language }) => language === "ts").map((example) => [
      join(consumer, `${moduleName(example)}.ts`),
      example
    ])
  )
  await Promise.all(Array.from(names, ([file, { code }]) => writeFile(file, code)))
  const program = ts.createProgram(Array.from(names.keys()), compilerOptions)
  const problems = new Map<string, string>()
  for (const diagnostic of ts.getPreEmitDiagnostics(program)) {
    const text = ts.flattenDiagnosticMessageText(diagnostic.messageText, "\n")
    const example = diagnostic.file && names.get(diagnostic.file.fileName)
    if (example === undefined) throw new Error(`${diagnostic.file?.fileName}: ${text}`)
    const line = (diagnostic.file?.getLineAndCharacterOfPosition(diagnostic.start ?? 0).line ?? 0) + 1
    const file = example.name.slice(0, example.name.lastIndexOf(":"))
    problems.set(example.name, `${problems.get(example.name) ?? ""}\n${file}:${line}: ${text}`)
  }
  program.emit()
  return problems
}

/** Runs a compiled example and gives what it printed. Fails if it fails, or takes more than some minutes. */
export const run = async (consumer: string, example: Example): Promise<string> => {
  const cwd = await mkdtemp(join(consumer, "run-"))
  const file = join(consumer, `${moduleName(example)}.js`)
  const [program, ...args] = example.language === "sh"
    ? ["/bin/sh", "-euc", example.code]
    : /from "(@effect\/)?vitest"/.test(example.code)
    ? await vitest(file)
    : [process.execPath, "--enable-source-maps", file]
  const env = { ...process.env, PATH: join(consumer, "bin") + delimiter + process.env["PATH"] }
  return new Promise((resolve, reject) =>
    execFile(
      program,
      args,
      { cwd, env, timeout: 200_000, killSignal: "SIGKILL" },
      (error, stdout, stderr) =>
        error === null ? resolve(stdout) : reject(
          new Error(
            `${example.name}: ${error.killed ? "it takes too long" : `exit code ${error.code}`}\n${stdout}${stderr}`
          )
        )
    )
  )
}

/** An example of a test is run by vitest, in a directory of its own so that it finds nothing else. */
const vitest = async (file: string): Promise<[string, ...Array<string>]> => {
  const test = file.replace(/js$/, "test.js")
  await writeFile(test, await readFile(file))
  return [process.execPath, join(project, "node_modules/vitest/vitest.mjs"), "run", "--root", dirname(file), test]
}

export const removeConsumer = (directory: string): Promise<void> => rm(directory, { recursive: true, force: true })
