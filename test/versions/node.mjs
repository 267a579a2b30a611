/**
 * Runs the tests on other versions of Node: `npm run test:node -- 22 24`, or `-- 22 JobSpec Output` for some of them.
 * The binaries come from the npm registry, and are removed again. The build has to be there (`npm run build`).
 */
import { delimiter, join } from "node:path"
import { inFolder, npmInstall, project, run, vitest } from "./install.mjs"

const args = process.argv.slice(2)
const isVersion = (arg) => /^\d+(\.\d+)*$/.test(arg)
const versions = args.filter(isVersion)
const filters = args.filter((arg) => !isVersion(arg))
if (versions.length === 0) {
  console.error("Which versions? For example: npm run test:node -- 22 24")
  process.exit(2)
}

const name = `node-${process.platform === "win32" ? "win" : process.platform}-${process.arch}`

const test = (version) =>
  inFolder(async (folder) => {
    console.log(`\n== Node ${version}`)
    await npmInstall(folder, [`${name}@${version}`])
    const bin = join(folder, "node_modules", name, "bin")
    const node = join(bin, "node")
    await run(node, ["--version"])
    // Scripts that say "node" get this one too.
    return vitest(node, project, filters, { ...process.env, PATH: bin + delimiter + process.env.PATH })
  })

for (const version of versions) {
  if (await test(version) !== 0) process.exitCode = 1
}
