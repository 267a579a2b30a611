import { defineConfig } from "vitest/config"

const { JOBLIB_TEST_CAPACITY: capacity, JOBLIB_TEST_REPORT: report } = process.env

/** Tests of what was built, and of hosts that are bundled: no capacity reaches them. */
const builtTests = ["test/bin.test.ts", "test/package.test.ts", "test/readme.test.ts", "test/hostDeath.test.ts"]

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: capacity === undefined ? [] : builtTests,
    pool: "forks",
    poolOptions: { forks: { maxForks: 2 } },
    testTimeout: 60_000,
    hookTimeout: 120_000,
    maxConcurrency: 2,
    ...(report === undefined ? {} : { reporters: ["default", "json"], outputFile: { json: report } })
  }
})
