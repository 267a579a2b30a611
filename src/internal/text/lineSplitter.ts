/** Cuts text into lines while it comes. */
export interface LineSplitter {
  readonly push: (text: string) => void
  /** What is left is a line too, if it is not empty. */
  readonly end: () => void
}

/**
 * Lines end with "\n" or "\r\n", wherever that was cut in two. A line of more than `maxLength` UTF-16 code units (at
 * least 2) comes in pieces, so that a program that never ends its line fills no memory.
 */
export const make = (maxLength: number, emit: (line: string) => void): LineSplitter => {
  let rest = ""

  /** All pieces but the last, which is the answer. */
  const emitPieces = (text: string): string => {
    while (text.length > maxLength) {
      const length = isHighSurrogate(text.charCodeAt(maxLength - 1)) ? maxLength - 1 : maxLength
      emit(text.slice(0, length))
      text = text.slice(length)
    }
    return text
  }

  return {
    push(text) {
      let start = 0
      for (let end = text.indexOf("\n"); end !== -1; end = text.indexOf("\n", start)) {
        emit(emitPieces(withoutReturn(rest + text.slice(start, end))))
        rest = ""
        start = end + 1
      }
      rest += text.slice(start)
      if (rest.length > maxLength) {
        // A "\r" at the very end may belong to the line's end, and not to the line.
        const line = withoutReturn(rest)
        rest = emitPieces(line) + rest.slice(line.length)
      }
    },
    end() {
      if (rest !== "") emit(emitPieces(rest))
    }
  }
}

const isHighSurrogate = (unit: number): boolean => unit >= 0xd800 && unit <= 0xdbff

const withoutReturn = (line: string): string =>
  line.charCodeAt(line.length - 1) === carriageReturn ? line.slice(0, -1) : line

const carriageReturn = 13
