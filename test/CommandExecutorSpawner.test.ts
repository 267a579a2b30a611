import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Layer from "effect/Layer"
import { layerCommandExecutor } from "../src/ProcessSpawner.ts"
import { programs } from "./fixtures/programs.ts"
import { suite } from "./ProcessSpawner.suite.ts"

const kill = (pid: string) => void process.kill(Number(pid), "SIGKILL")

suite("ProcessSpawner.layerCommandExecutor", Layer.provide(layerCommandExecutor, NodeContext.layer), programs, {
  guarantee: "leader",
  input: "delivered",
  pipes: "roomy",
  limits: "refused",
  kill
})
