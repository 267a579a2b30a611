import * as Layer from "effect/Layer"
import * as NodeProcessSpawner from "../src/NodeProcessSpawner.ts"
import { programs } from "./fixtures/programs.ts"
import { suite } from "./ProcessSpawner.suite.ts"
import { settings } from "./utils.ts"

const kill = (pid: string) => void process.kill(Number(pid), "SIGKILL")

suite("NodeProcessSpawner", Layer.provide(NodeProcessSpawner.layer, settings()), programs, {
  guarantee: "group",
  input: "delivered",
  pipes: "roomy",
  limits: "refused",
  kill
})
