/** Cuts text into lines while it comes. */
export interface LineSplitter {
  readonly push: (text: string) => void
  /** What is left is a line too, if it is not empty. */
  readonly end: () => void
}

/** What ends a line: `\n` or `\r\n`; any of these or `\r`; NUL. */
export type Delimiter = "\n" | "\r" | "\0"

/**
 * Emits lines without their ends, wherever those were cut in two. A line of more than `maxLength` UTF-16 code units (at
 * least 2) comes in pieces, of which all but the last are cut, so that a program that never ends its line fills no memory.
 */
export const make = (
  delimiter: Delimiter,
  maxLength: number,
  emit: (line: string, isCut: boolean) => void
): LineSplitter => {
  const find = finders[delimiter]
  const withoutReturn = delimiter === "\n" ? cutReturn : identity
  let rest = ""
  /** Whether a "\n" that comes next belongs to the end of the last line. */
  let hasReturned = false

  /** All pieces but the last, which is the answer. */
  const emitPieces = (text: string): string => {
    let start = 0
    while (text.length - start > maxLength) {
      const length = isHighSurrogate(text.charCodeAt(start + maxLength - 1)) ? maxLength - 1 : maxLength
      emit(text.slice(start, start + length), true)
      start += length
    }
    return text.slice(start)
  }

  return {
    push(text) {
      if (text === "") return
      let start = hasReturned && text.charCodeAt(0) === lineFeed ? 1 : 0
      hasReturned = false
      for (let end = find(text, start); end !== -1; end = find(text, start)) {
        emit(emitPieces(withoutReturn(rest + text.slice(start, end))), false)
        rest = ""
        start = end + 1
        if (delimiter !== "\r" || text.charCodeAt(end) !== carriageReturn) continue
        if (start === text.length) hasReturned = true
        else if (text.charCodeAt(start) === lineFeed) start++
      }
      rest += text.slice(start)
      if (rest.length > maxLength) {
        // A "\r" at the very end may belong to the line's end, and not to the line.
        const line = withoutReturn(rest)
        rest = emitPieces(line) + rest.slice(line.length)
      }
    },
    end() {
      if (rest !== "") emit(emitPieces(rest), false)
      rest = ""
    }
  }
}

/** The next end of a line, from an index on; -1: there is none. */
const finders: Readonly<Record<Delimiter, (text: string, start: number) => number>> = {
  "\n": (text, start) => text.indexOf("\n", start),
  "\r": (text, start) => {
    anyEnd.lastIndex = start
    return anyEnd.test(text) ? anyEnd.lastIndex - 1 : -1
  },
  "\0": (text, start) => text.indexOf("\0", start)
}

const anyEnd = /[\r\n]/g

const isHighSurrogate = (unit: number): boolean => unit >= 0xd800 && unit <= 0xdbff

const cutReturn = (line: string): string =>
  line.charCodeAt(line.length - 1) === carriageReturn ? line.slice(0, -1) : line

const identity = (line: string): string => line

const lineFeed = 10

const carriageReturn = 13
