import { assert, describe, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import * as lineSplitter from "../../../src/internal/text/lineSplitter.ts"

const split = (maxLength: number, texts: ReadonlyArray<string>): ReadonlyArray<string> => {
  const lines: Array<string> = []
  const splitter = lineSplitter.make(maxLength, (line) => lines.push(line))
  for (const text of texts) splitter.push(text)
  splitter.end()
  return lines
}

const Text = FastCheck.string({ unit: FastCheck.constantFrom("a", "b", "\r", "\n", "\r\n", "\ud83d", "\ude00", "😀") })

describe("lineSplitter", () => {
  it.prop(
    "cuts long lines at the same places, however the text came",
    [Text, FastCheck.integer({ max: 5, min: 2 })],
    ([text, maxLength]) => {
      const whole = split(maxLength, [text])
      assert.deepStrictEqual(split(maxLength, text.split("")), whole)
      assert.isTrue(whole.every((line) => line.length <= maxLength))
      assert.strictEqual(whole.join(""), split(Infinity, [text]).join(""))
    },
    { fastCheck: { numRuns: 2000 } }
  )

  it("does not cut a character in two", () => {
    assert.deepStrictEqual(split(3, ["ab😀c"]), ["ab", "😀c"])
  })

  it("does not take the end of a line of just the greatest length for one more piece", () => {
    assert.deepStrictEqual(split(3, ["abc\r", "\nabc", "\r\n", "abc\r"]), ["abc", "abc", "abc", "\r"])
  })
})
