/**
 * `npm run bench -- [topic...] [--rounds=N] [--json=FILE]`: builds the benchmarks and runs them in Node.
 *
 * Two builds are made: the second has plain waiters in the place of the `PubSub` that wakes subscribers.
 */
import { build } from "esbuild"
import { spawn } from "node:child_process"
import { readdir } from "node:fs/promises"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const here = dirname(fileURLToPath(import.meta.url))
const project = dirname(dirname(here))
const out = join(project, "node_modules", ".cache", "joblib-bench")
const topics = (await readdir(join(here, "topics"))).map((file) => join(here, "topics", file))

const withPlainWaiters = {
  name: "plain-waiters",
  setup: (build) =>
    build.onResolve(
      { filter: /^effect\/(PubSub|Queue)$/ },
      ({ importer }) => importer.endsWith("wakeUps.ts") ? { path: join(here, "plainWaiters.ts") } : undefined
    )
}

const bundle = (name, plugins) =>
  build({
    entryPoints: [join(here, "main.ts"), join(here, "measure.ts"), ...topics],
    outdir: join(out, name),
    outbase: here,
    bundle: true,
    splitting: true,
    packages: "external",
    format: "esm",
    target: "node20",
    sourcemap: "inline",
    plugins
  })

await Promise.all([bundle("pubsub", []), bundle("plainWaiters", [withPlainWaiters])])

const main = spawn(process.execPath, [join(out, "pubsub", "main.js"), ...process.argv.slice(2)], { stdio: "inherit" })
main.on("exit", (code) => {
  process.exitCode = code ?? 1
})
