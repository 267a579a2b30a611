import { afterAll, beforeAll, describe, it } from "vitest"
import * as Docs from "./docs/examples.ts"

const examples = [
  await Docs.inMarkdown("README.md"),
  ...await Promise.all((await Docs.sources()).map(Docs.inSource))
].flat()

let consumer: string
let problems: ReadonlyMap<string, string>

beforeAll(async () => {
  consumer = await Docs.makeConsumer()
  problems = await Docs.compile(consumer, examples)
})

afterAll(() => Docs.removeConsumer(consumer))

describe("every example in the README and in a doc comment compiles and runs", () => {
  for (const example of examples) {
    it.concurrent(example.name, async () => {
      const problem = problems.get(example.name)
      if (problem !== undefined) throw new Error(problem)
      await Docs.run(consumer, example)
    })
  }
})
