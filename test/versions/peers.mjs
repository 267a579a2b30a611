/**
 * Runs most of the tests with the oldest peers that package.json accepts, and checks the types of the build against them
 * (`npm run build` comes first). Or with other peers:
 * `npm run test:peers -- effect@3.20.0 @effect/platform@0.95.0`. All happens in a temporary folder.
 */
import { cp, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { inFolder, npmInstall, project, run, vitest } from "./install.mjs"

const { devDependencies, peerDependencies } = JSON.parse(await readFile(join(project, "package.json"), "utf8"))
const oldest = (name) => peerDependencies[name].match(/\d+\.\d+\.\d+/)[0]

const args = process.argv.slice(2)
const isPackage = (arg) => /^(effect|@effect\/[a-z-]+)@/.test(arg)
const filters = args.filter((arg) => !isPackage(arg))
const given = Object.fromEntries(
  args.filter(isPackage).map((arg) => {
    const at = arg.lastIndexOf("@")
    return [arg.slice(0, at), arg.slice(at + 1)]
  })
)

/** Tests that need no more than the peers and vitest. Those of CommandExecutorSpawner unset variables: see the README. */
const tests = [
  "test/Job",
  "test/Output",
  "test/ProcessSpawner",
  "test/NodeProcessSpawner",
  "test/Simulated",
  "test/ends.live",
  "test/input.live",
  "test/limits",
  "test/model",
  "test/types",
  "test/internal"
]

const { "@types/node": nodeTypes, typescript, vitest: vitestRange } = devDependencies

process.exitCode = await inFolder(async (folder) => {
  for (const name of ["src", "test", "tsconfig.json"]) {
    await cp(join(project, name), join(folder, name), { recursive: true })
  }
  const dependencies = {
    effect: oldest("effect"),
    "@effect/platform": oldest("@effect/platform"),
    // Those of the time of these peers; npm itself would look for the newest.
    "@effect/cluster": "0.51.0",
    "@effect/experimental": "0.57.0",
    "@effect/platform-node": "0.99.0",
    "@effect/platform-node-shared": "0.52.0",
    "@effect/rpc": "0.72.0",
    "@effect/sql": "0.47.0",
    "@effect/vitest": "0.27.0",
    "@effect/workflow": "0.12.0",
    "@types/node": nodeTypes,
    typescript,
    vitest: vitestRange,
    ...given
  }
  await writeFile(join(folder, "package.json"), JSON.stringify({ type: "module", dependencies }))
  await npmInstall(folder, ["--legacy-peer-deps"])
  await run("npm", ["ls", "--prefix", folder, ...Object.keys(dependencies).filter((name) => name.includes("effect"))])
  // What a user's compiler reads, with nothing left out.
  const installed = join(folder, "node_modules", "effect-joblib")
  await cp(join(project, "dist"), join(installed, "dist"), { recursive: true })
  await cp(join(project, "package.json"), join(installed, "package.json"))
  await writeFile(join(folder, "user.ts"), `import * as joblib from "effect-joblib"\nexport const modules = joblib\n`)
  const tsc = [
    join(folder, "node_modules/typescript/bin/tsc"),
    "--noEmit",
    "--strict",
    "--module",
    "NodeNext",
    "user.ts"
  ]
  const types = await run(process.execPath, tsc, { cwd: folder })
  const tested = await vitest(process.execPath, folder, filters.length > 0 ? filters : tests, process.env)
  return types === 0 ? tested : types
})
