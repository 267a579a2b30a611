#!/usr/bin/env node
import * as CliConfig from "@effect/cli/CliConfig"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as ValidationError from "@effect/cli/ValidationError"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as NodeTerminal from "@effect/platform-node/NodeTerminal"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { isatty } from "node:tty"
import { stripVTControlCharacters } from "node:util"
import packageJson from "../package.json" with { type: "json" }
import * as Cli from "./internal/cli/cli.ts"

/** The command itself failed, not its program; as with env(1), timeout(1) and nohup(1). */
const failed = 125

const plain = (text: string): string => stripVTControlCharacters(text)

const message = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  const text = ValidationError.isValidationError(error)
    ? plain(HelpDoc.toAnsiText(error.error))
    : error instanceof Error
    ? error.message
    : String(error)
  return text.replace(/\s+/g, " ").trim()
}

const main = Effect.consoleWith((console) =>
  Cli.run(process.argv, packageJson.version).pipe(
    Effect.withConsole({
      ...console,
      log: (text) => console.log(isatty(1) ? text : plain(text)),
      // What is wrong with the command line is said once, below.
      error: () => Effect.void
    }),
    Effect.catchAllCause((cause) =>
      Effect.async<void>((resume) => {
        process.exitCode = failed
        process.stderr.write(`joblib: ${message(cause)}\n`, () => resume(Effect.void))
      })
    )
  )
)

const layer = Layer.mergeAll(
  NodeFileSystem.layer,
  NodePath.layer,
  NodeTerminal.layer,
  CliConfig.layer({ showBuiltIns: false })
)

// A reader that has left shows as a failed write; unheard, the event would end this process first.
process.stdout.on("error", () => {})
process.stderr.on("error", () => {})

await Effect.runPromise(Effect.provide(main, layer))
// Standard input may still be open, and must not keep this process.
process.exit()
