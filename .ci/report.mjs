// Prints how many tests of a report by vitest passed, failed and were left out, and appends the last two to files.
import { appendFileSync, readFileSync } from "node:fs"

const [script, report, failures, leftOut] = process.argv.slice(2)
const { numFailedTests, numPassedTests, numPendingTests, testResults } = JSON.parse(readFileSync(report, "utf8"))
console.log(numPassedTests, numFailedTests, numPendingTests)

for (const { assertionResults, message, name } of testResults) {
  for (const { fullName, status } of assertionResults) {
    if (status !== "passed" && status !== "failed") appendFileSync(leftOut, `npm run ${script}: ${name} ${fullName}\n`)
  }
  const failed = assertionResults.filter(({ status }) => status === "failed")
  const told = failed.map(({ failureMessages, fullName }) => [fullName, failureMessages.join("\n")])
  for (const [title, why] of message ? [...told, ["", message]] : told) {
    appendFileSync(failures, `FAILED: npm run ${script}: ${name} ${title}\n${why.slice(0, 2000)}\n\n`)
  }
}
