import { assert, describe, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { completeLength } from "../../../src/internal/text/utf8.ts"

const decode = (bytes: Uint8Array) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes)

const Byte = FastCheck.oneof(
  FastCheck.integer({ min: 0, max: 255 }),
  FastCheck.constantFrom(0x41, 0x80, 0xbf, 0xc0, 0xc2, 0xe0, 0xe2, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0xff)
)

const Text = FastCheck.string({ unit: "binary" }).map((text) => Array.from(new TextEncoder().encode(text)))

describe("completeLength", () => {
  it.prop(
    "cuts no character in two, nor changes what wrong bytes become, and leaves three bytes at most",
    [FastCheck.oneof(FastCheck.array(Byte, { maxLength: 12 }), Text)],
    ([data]) => {
      const bytes = Uint8Array.from(data)
      for (let end = 0; end <= bytes.length; end++) {
        const length = completeLength(bytes.subarray(0, end))
        assert.isAtMost(end - length, 3)
        assert.strictEqual(decode(bytes.subarray(0, length)) + decode(bytes.subarray(length)), decode(bytes))
      }
    },
    { fastCheck: { numRuns: 2000, seed: 1 } }
  )

  it("takes every character as soon as it is whole", () => {
    for (const character of ["a", "é", "€", "😀"]) {
      const bytes = new TextEncoder().encode(character)
      assert.strictEqual(completeLength(bytes), bytes.length)
      for (let end = 1; end < bytes.length; end++) assert.strictEqual(completeLength(bytes.subarray(0, end)), 0)
    }
  })
})
