// Prints how many tests of a report by vitest passed and how many failed, and appends those that failed to a file.
import { appendFileSync, readFileSync } from "node:fs"

const [script, report, failures] = process.argv.slice(2)
const { numFailedTests, numPassedTests, testResults } = JSON.parse(readFileSync(report, "utf8"))
console.log(numPassedTests, numFailedTests)

for (const { assertionResults, message, name } of testResults) {
  const failed = assertionResults.filter(({ status }) => status === "failed")
  const told = failed.map(({ failureMessages, fullName }) => [fullName, failureMessages.join("\n")])
  for (const [title, why] of message ? [...told, ["", message]] : told) {
    appendFileSync(failures, `FAILED: npm run ${script}: ${name} ${title}\n${why.slice(0, 2000)}\n\n`)
  }
}
