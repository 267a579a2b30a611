/**
 * What the tests share.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { JobConfig, JobCoordinator, NodeProcessSpawner } from "../src/index.ts"

/** The capacity of every mailbox under test: `JOBLIB_TEST_CAPACITY=1` runs the whole suite with the smallest. */
const capacity = Config.option(Config.integer("JOBLIB_TEST_CAPACITY"))

/** Settings under which a layer is tested. */
export const settings = (partial: JobConfig.PartialSettings = {}): Layer.Layer<never> =>
  Layer.unwrapEffect(
    Effect.orDie(Effect.map(capacity, (mailboxCapacity) =>
      JobConfig.layer(mailboxCapacity._tag === "Some" ? { mailboxCapacity: mailboxCapacity.value, ...partial } : partial)))
  )

/** A coordinator of real processes. */
export const live = (partial: JobConfig.PartialSettings = {}): Layer.Layer<JobCoordinator.JobCoordinator> =>
  JobCoordinator.layer.pipe(Layer.provide(NodeProcessSpawner.layer), Layer.provide(settings(partial)))
