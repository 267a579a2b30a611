/** Where the last character begins whose bytes may not all be there yet; the length of the bytes if there is none. */
export const completeLength = (bytes: Uint8Array): number => {
  for (let i = bytes.length - 1; i >= Math.max(0, bytes.length - 3); i--) {
    const byte = bytes[i] ?? 0
    if (isContinuation(byte)) continue
    return i + lengthOf(byte) > bytes.length ? i : bytes.length
  }
  return bytes.length
}

const isContinuation = (byte: number): boolean => (byte & 0xc0) === 0x80

/** How many bytes a character has that begins with a byte; 1 if none does. */
const lengthOf = (byte: number): number => {
  if (byte >= 0xc2 && byte <= 0xdf) return 2
  if (byte >= 0xe0 && byte <= 0xef) return 3
  return byte >= 0xf0 && byte <= 0xf4 ? 4 : 1
}
