/**
 * Who imports whom. What Node sees of it is less than what a reader does: types count too.
 */
import { assert, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../src", import.meta.url))

const files = Fs.readdirSync(root, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"))

const importsOf = (file: string): ReadonlyArray<string> =>
  Array.from(
    Fs.readFileSync(Path.join(root, file), "utf8").matchAll(/^(?:import|export)\b[^"]*? from "(\..*?)"/gm),
    ([, path = ""]) => Path.join(Path.dirname(file), path)
  )

/** Of the seam to the operating system. */
const isOfProcesses = (circle: string): boolean => circle.includes("rocess")

it("no circle of imports runs through what makes processes, not even one of types", () => {
  const circles: Array<string> = []
  const done = new Set<string>()
  const visit = (file: string, path: ReadonlyArray<string>) => {
    if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(" -> "))
    if (done.has(file)) return
    done.add(file)
    for (const next of importsOf(file)) visit(next, [...path, file])
  }
  for (const file of files) visit(file, [])
  assert.isAbove(done.size, 30)
  assert.deepStrictEqual(circles.filter(isOfProcesses), [])
})
