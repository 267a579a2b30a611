import { fork } from "node:child_process"
import { mkdir, writeFile } from "node:fs/promises"
import { cpus, totalmem } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { compare, type Comparison, table } from "./report.ts"
import { importTopic, type Samples, type Work } from "./work.ts"

const topics = [
  "spawn",
  "spawn-1gb",
  "reader",
  "lines",
  "fanout",
  "fanout-pull",
  "fanout-lines",
  "joiners",
  "store",
  "status",
  "idle"
]

const builds = dirname(dirname(fileURLToPath(import.meta.url)))

const measure = (build: string, args: ReadonlyArray<string | number>): Promise<Samples> =>
  new Promise((resolve, reject) => {
    const child = fork(join(builds, build, "measure.js"), args.map(String), {
      execArgv: ["--expose-gc", "--enable-source-maps"]
    })
    child.once("message", (samples) => resolve(samples as Samples))
    child.once("exit", (code) => reject(new Error(`${args.join(" ")}: exit code ${code}`)))
  })

/** All contestants in one process, or, one after the other, each in its own. */
const measureAll = async (topic: string, index: number, work: Work, rounds: number): Promise<Samples> => {
  const names = Object.keys(work.contestants)
  if (work.isolated !== true) return measure("pubsub", [topic, index, rounds, ...names])
  const samples: Record<string, ReadonlyArray<number>> = {}
  for (let round = 0; round < rounds; round++) {
    for (const name of names) {
      const taken = await measure(work.contestants[name]?.build ?? "pubsub", [topic, index, 1, name])
      samples[name] = [...samples[name] ?? [], ...taken[name] ?? []]
    }
  }
  return samples
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: "5" },
    json: { type: "string", default: join("test", "bench", "results", "latest.json") }
  }
})
const unknown = positionals.filter((topic) => !topics.includes(topic))
if (unknown.length > 0) throw new Error(`no topic ${unknown.join(", ")}; there are ${topics.join(", ")}`)

const machine = `Node ${process.versions.node}, ${cpus().length} × ${cpus()[0]?.model}, ${
  Math.round(totalmem() / 2 ** 30)
} GiB`
console.log(machine)
const comparisons: Array<Comparison> = []
for (const topic of positionals.length > 0 ? positionals : topics) {
  const works = await importTopic(topic)
  for (const [index, work] of works.entries()) {
    const comparison = compare(topic, work, await measureAll(topic, index, work, Number(values.rounds)))
    comparisons.push(comparison)
    console.log(`\n${table(comparison)}`)
  }
}
await mkdir(dirname(values.json), { recursive: true })
await writeFile(values.json, `${JSON.stringify({ machine, date: new Date(), comparisons }, undefined, 2)}\n`)
