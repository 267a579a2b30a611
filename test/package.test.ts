import { execFile } from "node:child_process"
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { basename, dirname, join } from "node:path"
import { promisify } from "node:util"
import ts from "typescript"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { project } from "./docs/examples.ts"

const exec = promisify(execFile)

const publicModules = (await readdir(join(project, "src"))).filter((file) => /^[A-Z].*\.ts$/.test(file))
  .map((file) => basename(file, ".ts"))

let consumer: string
let packed: ReadonlyArray<string>

const installed = (file: string) => join(consumer, "node_modules", "effect-joblib", file)

const dependOn = async (name: string) => {
  const link = join(consumer, "node_modules", name)
  await mkdir(dirname(link), { recursive: true })
  await symlink(join(project, "node_modules", name), link)
}

/** Runs a module in the consumer's directory. What it prints is JSON. */
const evaluate = async (code: string): Promise<unknown> =>
  JSON.parse((await exec(process.execPath, ["--input-type=module", "--eval", code], { cwd: consumer })).stdout)

beforeAll(async () => {
  consumer = await mkdtemp(join(tmpdir(), "joblib-package-"))
  await writeFile(join(consumer, "package.json"), `{ "type": "module" }`)
  const pack = await exec("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", consumer], {
    cwd: project
  })
  const [{ filename, files }] = JSON.parse(pack.stdout)
  packed = files.map((file: { path: string }) => file.path)
  // Peers are left out, so that nothing is fetched; they are this project's own.
  await exec("npm", ["install", "--offline", "--ignore-scripts", "--legacy-peer-deps", join(consumer, filename)], {
    cwd: consumer
  })
  await dependOn("effect")
  await dependOn("@effect/platform")
})

afterAll(() => rm(consumer, { recursive: true, force: true }))

describe("the packed package, installed in an empty folder", () => {
  it("holds the build, the sources for its source maps, and nothing else", async () => {
    expect(packed.filter((file) => !/^(dist|src)\//.test(file)).sort()).toEqual([
      "CHANGELOG.md",
      "LICENSE",
      "README.md",
      "package.json"
    ])
    expect(packed.filter((file) => file.includes("tsconfig"))).toEqual([])
    const maps = packed.filter((file) => file.endsWith(".map"))
    expect(maps).toContain("dist/JobCoordinator.js.map")
    const mapped = await Promise.all(maps.map(async (map): Promise<ReadonlyArray<string>> => {
      const { sources } = JSON.parse(await readFile(installed(map), "utf8"))
      return sources.map((source: string) => join(dirname(map), source))
    }))
    expect(packed.filter((file) => file.startsWith("src/")).sort()).toEqual(Array.from(new Set(mapped.flat())).sort())
  })

  it("exports each public module by its name, and as a namespace", async () => {
    const imports = publicModules.map((name) => `import * as ${name} from "effect-joblib/${name}"`).join("\n")
    const same = await evaluate(`${imports}
      import * as joblib from "effect-joblib"
      const modules = { ${publicModules.join(", ")} }
      const same = Object.entries(modules).filter(([name, module]) => joblib[name] === module).map(([name]) => name)
      console.log(JSON.stringify({ same, exported: Object.keys(joblib) }))`)
    expect(same).toEqual({ same: publicModules, exported: publicModules })
  })

  it("keeps its internals and its executable to itself", async () => {
    const closed = [
      "effect-joblib/internal/actor/actor",
      "effect-joblib/internal/actor/actor.js",
      "effect-joblib/bin",
      "effect-joblib/index"
    ]
    const codes = await evaluate(`
      const code = (module) => import(module).then(() => "open", (error) => error.code)
      console.log(JSON.stringify(await Promise.all(${JSON.stringify(closed)}.map(code))))`)
    expect(codes).toEqual(closed.map(() => "ERR_PACKAGE_PATH_NOT_EXPORTED"))
  })

  it("imports nothing but Node and the modules of its peers", async () => {
    const imported = new Set<string>()
    for (const file of packed.filter((file) => /^dist\/.*\.js$/.test(file) && file !== "dist/bin.js")) {
      for (const { fileName } of ts.preProcessFile(await readFile(installed(file), "utf8")).importedFiles) {
        imported.add(fileName.replace(/^\..*\.js$/, "./*.js"))
      }
    }
    const foreign = Array.from(imported).filter((name) =>
      !/^(\.\/\*\.js$|node:|effect\/|@effect\/platform\/)/.test(name)
    )
    expect(foreign).toEqual([])
  })

  it("runs as a command", async () => {
    const joblib = join(consumer, "node_modules", ".bin", "joblib")
    expect((await exec(joblib, ["run", "--", "echo", "hello"], { cwd: consumer })).stdout).toBe("hello\n")
  })

  const resolutions = [
    ["NodeNext", { module: ts.ModuleKind.NodeNext }],
    ["Bundler", { module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler }]
  ] as const

  it.each(resolutions)("has types that resolve under %s, without those of Node", async (_, options) => {
    const file = join(consumer, "consumer.ts")
    await writeFile(file, consumerModule)
    const program = ts.createProgram([file], {
      ...options,
      target: ts.ScriptTarget.ES2022,
      lib: ["lib.es2022.d.ts", "lib.dom.d.ts", "lib.dom.iterable.d.ts"],
      types: [],
      strict: true,
      noEmit: true
    })
    const own = program.getSourceFiles().filter(({ fileName }) => fileName.startsWith(consumer))
    const problems = own.flatMap((source) => [
      ...program.getSyntacticDiagnostics(source),
      ...program.getSemanticDiagnostics(source)
    ])
    expect(own.map(({ fileName }) => fileName)).toContain(installed("dist/JobCoordinator.d.ts"))
    expect(problems.map((problem) => ts.flattenDiagnosticMessageText(problem.messageText, "\n"))).toEqual([])
  })
})

const consumerModule = `
import { Effect, Layer, Stream } from "effect"
import { JobCoordinator, type JobError, JobSpec, type JobStatus, NodeProcessSpawner } from "effect-joblib"
import { JobCoordinator as Tag } from "effect-joblib/JobCoordinator"

export const program: Effect.Effect<
  JobStatus.Ended,
  JobError.JobStartError | JobError.InvalidJobSpec | JobError.JobLimitReached | JobError.JobNotFound | JobError.CoordinatorStopped
> = Effect.gen(function*() {
  const jobs = yield* Tag
  const id = yield* jobs.start(JobSpec.make({ command: "true" }))
  return yield* jobs.wait(id)
}).pipe(Effect.provide(JobCoordinator.layer.pipe(Layer.provide(NodeProcessSpawner.layer))))

export const bytes = Effect.map(JobCoordinator.JobCoordinator, (jobs) =>
  Stream.map(Stream.unwrap(Effect.map(jobs.start(JobSpec.make({ command: "true" })), (id) => jobs.stdout(id))), (bytes) => {
    // @ts-expect-error: were the types not found, this would be an any
    const text: string = bytes
    return text
  }))
`
