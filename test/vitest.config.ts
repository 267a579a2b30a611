import { defineConfig } from "vitest/config"

const { JOBLIB_TEST_CAPACITY: capacity, JOBLIB_TEST_REPORT: report, JOBLIB_TEST_SEED: wanted = "20251127" } =
  process.env

/** Whatever is random in a test follows from it; `JOBLIB_TEST_SEED=random` makes one, and says which. */
const seed = wanted === "random" ? String(Math.floor(Math.random() * 2 ** 31)) : wanted
console.log(`JOBLIB_TEST_SEED=${seed}`)

/** Tests of what was built, and of hosts that are bundled: no capacity reaches them. */
const builtTests = ["test/bin.test.ts", "test/package.test.ts", "test/readme.test.ts", "test/hostDeath.test.ts"]

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: capacity === undefined ? [] : builtTests,
    env: { JOBLIB_TEST_SEED: seed },
    setupFiles: ["test/setup.ts"],
    pool: "forks",
    poolOptions: { forks: { maxForks: 2 } },
    testTimeout: 60_000,
    hookTimeout: 120_000,
    maxConcurrency: 2,
    ...(report === undefined ? {} : { reporters: ["default", "json"], outputFile: { json: report } })
  }
})
