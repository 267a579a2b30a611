/**
 * Runs in a process of its own: `measure.js TOPIC WORK ROUNDS CONTESTANT...`. The contestants take turns.
 */
import { importTopic } from "./work.ts"

const [topic = "", index, rounds, ...names] = process.argv.slice(2)
const works = await importTopic(topic)
const work = works[Number(index)]
if (work === undefined) throw new Error(`${topic} has no work ${index}`)

const samples: Record<string, Array<number>> = {}
for (let round = -(work.warmUps ?? 1); round < Number(rounds); round++) {
  // Each round begins with another one, so that none always comes first.
  const turn = Math.max(0, round) % names.length
  for (const name of [...names.slice(turn), ...names.slice(0, turn)]) {
    globalThis.gc?.()
    const sample = await work.contestants[name]?.measure()
    if (round >= 0 && sample !== undefined) (samples[name] ??= []).push(sample)
  }
}
process.send?.(samples, () => process.exit())
