/**
 * What a newcomer does, under each package manager: packs a fresh clone of what is committed, installs it in an empty
 * folder, pastes the README's first program there, and runs it and the command. `npm run test:install`, or
 * `npm run test:install -- pnpm` for one of them.
 */
import { execFile } from "node:child_process"
import { cp, mkdir, readdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"
import { inFolder, npmInstall, project, run } from "./install.mjs"

const readme = await readFile(join(project, "README.md"), "utf8")
const [, program] = /^```ts\n([^]*?)^```$/m.exec(readme)
const packages = /npm install effect-joblib ([^\n`]+)/.exec(readme)[1].trim().split(" ")

const node = process.execPath
const managers = {
  npm: { add: (tarball) => ["npm", "install", tarball, ...packages], exec: ["npm", "exec", "--no", "--"] },
  pnpm: {
    package: "pnpm@9",
    bin: "pnpm/bin/pnpm.cjs",
    add: (tarball, scratch) => ["add", "--store-dir", join(scratch, "store"), tarball, ...packages],
    exec: ["exec"]
  },
  yarn: {
    package: "yarn@1",
    bin: "yarn/bin/yarn.js",
    add: (tarball, scratch) => ["add", "--cache-folder", join(scratch, "cache"), tarball, ...packages],
    exec: ["--silent", "run"]
  }
}

const must = async (command, args, cwd) => {
  console.log(`$ ${[command, ...args].join(" ").replaceAll(node, "node")}`)
  if (await run(command, args, { cwd }) !== 0) throw new Error("it failed")
}

const output = async (command, args, cwd) => {
  console.log(`$ ${[command, ...args].join(" ").replaceAll(node, "node")}`)
  const { stdout } = await promisify(execFile)(command, args, { cwd })
  console.log(stdout)
  return stdout
}

const notInAClone = new Set([".git", "node_modules", "dist", "docs"].map((name) => join(project, name)))

/** What is committed; or, without a git that may read it, what is there. */
const clone = async (folder, scratch) => {
  try {
    await must("git", ["clone", "--quiet", project, folder], scratch)
  } catch (error) {
    console.log(`No clone (${error.message}): the files as they are`)
    await cp(project, folder, { recursive: true, filter: (file) => !notInAClone.has(file) })
  }
}

const pack = async (scratch) => {
  const fresh = join(scratch, "clone")
  await clone(fresh, scratch)
  await must("npm", ["ci", "--no-audit", "--no-fund"], fresh)
  await must("npm", ["pack", "--silent", "--pack-destination", scratch], fresh)
  const [tarball] = (await readdir(scratch)).filter((file) => file.endsWith(".tgz"))
  return join(scratch, tarball)
}

const tryIn = async (scratch, tarball, name) => {
  console.log(`\n== ${name}`)
  const { add, bin, exec, package: spec } = managers[name]
  const folder = join(scratch, name)
  await mkdir(folder)
  const tools = join(scratch, `${name}-itself`)
  if (spec !== undefined) {
    await mkdir(tools)
    await npmInstall(tools, [spec])
  }
  const [command, ...first] = spec === undefined ? ["npm"] : [node, join(tools, "node_modules", bin)]
  const call = (args) => spec === undefined ? args.slice(1) : [...first, ...args]
  await must(command, call(add(tarball, scratch)), folder)
  await writeFile(join(folder, "hello.mts"), program)
  const said = await output(command, call([...exec, "tsx", "hello.mts"]), folder)
  for (const expected of ["one", "two", "Killed"]) {
    if (!said.includes(expected)) throw new Error(`the README's first program did not print "${expected}"`)
  }
  // Not through the package manager: yarn takes the "--" for its own.
  const hello = await output("node_modules/.bin/joblib", ["run", "--timeout", "30s", "--", "echo", "hello"], folder)
  if (hello.trim() !== "hello") throw new Error("the command did not print what its job did")
}

await inFolder(async (scratch) => {
  const tarball = await pack(scratch)
  const named = process.argv.slice(2)
  for (const name of named.length > 0 ? named : Object.keys(managers)) await tryIn(scratch, tarball, name)
  console.log("\nall of them")
})
