import { defineConfig } from "vitest/config"
import type { Reporter } from "vitest/node"

const { JOBLIB_TEST_CAPACITY: capacity, JOBLIB_TEST_REPORT: report, JOBLIB_TEST_SEED: wanted = "20251127" } =
  process.env

/** Whatever is random in a test follows from it; `JOBLIB_TEST_SEED=random` makes one, and says which. */
const seed = wanted === "random" ? String(Math.floor(Math.random() * 2 ** 31)) : wanted
console.log(`JOBLIB_TEST_SEED=${seed}`)

/** Tests of what was built, and of hosts that are bundled: no capacity reaches them. */
const builtTests = [
  "test/bin.test.ts",
  "test/package.test.ts",
  "test/readme.test.ts",
  "test/hostDeath.test.ts",
  "test/docs/**"
]

/** Names the tests that this machine cannot run. */
const leftOut: Reporter = {
  onTestRunEnd: (modules) => {
    const names = modules.flatMap((module) => Array.from(module.children.allTests("skipped")))
      .filter((test) => test.options.mode === "skip")
      .map((test) => `  ${test.fullName}\n`)
    console.log(names.length === 0 ? "Nothing was left out.\n" : `Left out on this machine:\n${names.join("")}`)
  }
}

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: capacity === undefined ? [] : builtTests,
    env: { JOBLIB_TEST_SEED: seed },
    setupFiles: ["test/setup.ts"],
    pool: "forks",
    poolOptions: { forks: { maxForks: 2 } },
    // They tell what hangs, not what is slow.
    testTimeout: 240_000,
    hookTimeout: 240_000,
    maxConcurrency: 2,
    reporters: ["default", leftOut, ...(report === undefined ? [] : ["json"])],
    ...(report === undefined ? {} : { outputFile: { json: report } })
  }
})
