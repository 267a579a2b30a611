/**
 * The ids of jobs: random UUIDs (version 4) that are never used again.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

const uuidV4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

/**
 * The id of a job, a UUID of version 4.
 *
 * @since 0.1.0
 * @category models
 */
export const JobId = Schema.String.pipe(
  Schema.pattern(uuidV4, { arbitrary: () => (fc) => fc.uuid({ version: 4 }) }),
  Schema.brand("joblib/JobId")
)

/**
 * The id of a job.
 *
 * @since 0.1.0
 * @category models
 */
export type JobId = typeof JobId.Type

/**
 * A new id, from the platform's cryptographic source of randomness.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (): JobId => {
  const uuid = globalThis.crypto.randomUUID()
  // Node gives a rope of twenty pieces: to read from it makes it a string of one, which takes a fraction of the memory.
  uuid.charCodeAt(0)
  return JobId.make(uuid, { disableValidation: true })
}
