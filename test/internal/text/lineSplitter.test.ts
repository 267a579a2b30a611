import { assert, describe, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import * as lineSplitter from "../../../src/internal/text/lineSplitter.ts"

const pieces = (maxLength: number, texts: ReadonlyArray<string>, delimiter: lineSplitter.Delimiter = "\n") => {
  const lines: Array<{ readonly line: string; readonly isCut: boolean }> = []
  const splitter = lineSplitter.make(delimiter, maxLength, (line, isCut) => lines.push({ line, isCut }))
  for (const text of texts) splitter.push(text)
  splitter.end()
  return lines
}

const split = (maxLength: number, texts: ReadonlyArray<string>, delimiter: lineSplitter.Delimiter = "\n") =>
  pieces(maxLength, texts, delimiter).map(({ line }) => line)

/** What a line ends with, as one who has the whole text would cut it. */
const ends = { "\n": /\r?\n/, "\r": /\r\n|\r|\n/, "\0": /\0/ }

const Text = FastCheck.string({
  unit: FastCheck.constantFrom("a", "b", "\r", "\n", "\r\n", "\0", "\ud83d", "\ude00", "😀")
})

const Delimiter = FastCheck.constantFrom<lineSplitter.Delimiter>("\n", "\r", "\0")

describe("lineSplitter", () => {
  it.prop(
    "cuts long lines at the same places, however the text came, and says of each piece whether it goes on",
    [Text, FastCheck.integer({ max: 5, min: 2 }), Delimiter],
    ([text, maxLength, delimiter]) => {
      const whole = pieces(maxLength, [text], delimiter)
      assert.deepStrictEqual(pieces(maxLength, text.split(""), delimiter), whole)
      assert.isTrue(whole.every(({ line }) => line.length <= maxLength))
      const joined: Array<string> = []
      let isCut = false
      for (const piece of whole) {
        if (isCut) joined.push(joined.pop() + piece.line)
        else joined.push(piece.line)
        isCut = piece.isCut
      }
      assert.isFalse(isCut)
      assert.deepStrictEqual(joined, split(Infinity, [text], delimiter))
    },
    { fastCheck: { numRuns: 2000, seed: 1 } }
  )

  it.prop(
    "ends lines where its delimiter says, however the text came",
    [Text, Delimiter],
    ([text, delimiter]) => {
      const lines = text.split(ends[delimiter])
      if (lines.at(-1) === "") lines.pop()
      assert.deepStrictEqual(split(Infinity, text.split(""), delimiter), lines)
      assert.deepStrictEqual(split(Infinity, [text], delimiter), lines)
    },
    { fastCheck: { numRuns: 1000, seed: 1 } }
  )

  it("does not cut a character in two", () => {
    assert.deepStrictEqual(split(3, ["ab😀c"]), ["ab", "😀c"])
  })

  it("does not take the end of a line of just the greatest length for one more piece", () => {
    assert.deepStrictEqual(split(3, ["abc\r", "\nabc", "\r\n", "abc\r"]), ["abc", "abc", "abc", "\r"])
  })
})
