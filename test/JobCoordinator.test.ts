import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Layer from "effect/Layer"
import * as NodeProcessSpawner from "../src/NodeProcessSpawner.ts"
import * as ProcessSpawner from "../src/ProcessSpawner.ts"
import * as Scripts from "./fixtures/scripts.ts"
import { suite } from "./JobCoordinator.suite.ts"

suite({
  name: "simulated processes",
  spawner: Scripts.layerSimulated,
  job: Scripts.simulatedJob,
  many: 1000,
  often: 1000,
  endsGroups: true
})

suite({
  name: "real processes",
  spawner: NodeProcessSpawner.layer,
  job: Scripts.realJob,
  many: 1000,
  often: 200,
  endsGroups: true
})

suite({
  name: "real processes by sockets",
  spawner: NodeProcessSpawner.layer,
  job: (script, options) => Scripts.realJob(script, { ...options, transport: "socket" }),
  many: 200,
  often: 50,
  endsGroups: true
})

suite({
  name: "real processes through a CommandExecutor",
  spawner: Layer.provide(ProcessSpawner.layerCommandExecutor, NodeContext.layer),
  job: Scripts.realJob,
  many: 200,
  often: 50,
  endsGroups: false
})
