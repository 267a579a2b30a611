import * as Arbitrary from "effect/Arbitrary"
import * as FastCheck from "effect/FastCheck"
import * as Schema from "effect/Schema"
import { deepStrictEqual } from "node:assert/strict"

/** What comes back of a value that is sent to another host. */
export const throughJson = <A, I>(schema: Schema.Schema<A, I>, value: A): A =>
  Schema.decodeUnknownSync(schema)(JSON.parse(JSON.stringify(Schema.encodeSync(schema)(value))))

/** Fails unless every value of the schema is the same after it was JSON. */
export const assertBecomesJsonAndBack = <A, I>(schema: Schema.Schema<A, I>): void =>
  FastCheck.assert(FastCheck.property(
    Arbitrary.make(schema),
    (value) => deepStrictEqual(throughJson(schema, value), value)
  ))
