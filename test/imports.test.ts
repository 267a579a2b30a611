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

it("there is no circle of imports, not even one of types", () => {
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
  assert.deepStrictEqual(circles, [])
})

it("a room imports from no room that imports from it, and nothing from what is above it", () => {
  const room = (file: string) => file.startsWith("internal/") ? Path.dirname(file) : undefined
  const rooms = new Map<string, Set<string>>()
  for (const file of files) {
    for (const next of importsOf(file)) {
      const [from, to] = [room(file), room(next)]
      if (from !== undefined && to !== undefined && from !== to) rooms.set(from, (rooms.get(from) ?? new Set()).add(to))
    }
  }
  const mutual = Array.from(rooms).flatMap(([from, tos]) =>
    Array.from(tos).filter((to) => rooms.get(to)?.has(from)).map((to) => `${from} <-> ${to}`)
  )
  assert.deepStrictEqual(mutual, [])
  const above = files.filter((file) => room(file) !== undefined && room(file) !== "internal/cli")
    .flatMap((file) => importsOf(file).filter((next) => /^(JobCoordinator|index|bin)\.ts$/.test(next)))
  assert.deepStrictEqual(above, [])
})
