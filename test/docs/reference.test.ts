import { mkdtemp, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import * as Reference from "./reference.ts"

let directory: string

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "joblib-docs-"))
  await Reference.write(join(directory, "docs"))
}, 600_000)

afterAll(() => rm(directory, { recursive: true, force: true }))

describe("with the reference alone one can program:", () => {
  for (const module of Reference.publicModules) {
    const exported = () => Reference.declared().filter((_) => _.module === module)

    it(`it shows all that ${module} exports, with every member`, async () => {
      const page = await readFile(join(directory, "docs", "modules", `${module}.ts.md`), "utf8")
      assert.match(page, /^---\ntitle: /)
      const missing = exported().flatMap(({ members, title }) => {
        const [begin, end] = Reference.section(page, title)
        const text = page.slice(begin, end)
        return members.filter(({ name }) => !new RegExp(`\\breadonly ${name}\\??:`).test(text))
          .map(({ name }) => `${title}: ${name}`)
      })
      assert.deepStrictEqual(missing, [])
    })

    it(`it says what every member of ${module} means`, () => {
      const silent = exported().flatMap(({ members, title }) =>
        members.filter(({ isDocumented }) => !isDocumented).map(({ name }) => `${title}: ${name}`)
      )
      assert.deepStrictEqual(silent, [])
    })
  }
})
