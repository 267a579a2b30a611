/** What both commands here share: packages of the registry in a folder of their own, and programs that run to their end. */
import { spawn } from "node:child_process"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

export const project = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

/** Runs a program with our output, and gives its exit code. */
export const run = (command, args, options = {}) =>
  new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: project, stdio: "inherit", ...options })
    child.once("error", reject)
    child.once("exit", (code) => resolve(code ?? 1))
  })

/** Gives a temporary folder to what it calls, and removes it. */
export const inFolder = async (body) => {
  const folder = await mkdtemp(join(tmpdir(), "joblib-versions-"))
  try {
    return await body(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const install = ["install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]

/** Installs packages into a folder, and what its package.json says. */
export const npmInstall = async (folder, args) => {
  const code = await run("npm", [...install, "--prefix", folder, ...args], { cwd: folder })
  if (code !== 0) throw new Error(`npm cannot install ${args.join(" ")}`)
}

/** Runs the tests with this Node and in this folder, those whose names have one of the filters. */
export const vitest = (node, folder, filters, env) =>
  run(
    node,
    [join(folder, "node_modules/vitest/vitest.mjs"), "run", "--config", "test/vitest.config.ts", ...filters],
    { cwd: folder, env }
  )
