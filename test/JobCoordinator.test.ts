import * as NodeProcessSpawner from "../src/NodeProcessSpawner.ts"
import * as Scripts from "./fixtures/scripts.ts"
import { suite } from "./JobCoordinator.suite.ts"

suite({ name: "simulated processes", spawner: Scripts.layerSimulated, job: Scripts.simulatedJob, often: 1000 })

suite({ name: "real processes", spawner: NodeProcessSpawner.layer, job: Scripts.realJob, often: 200 })
