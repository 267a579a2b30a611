/**
 * In which order the bytes of two sources came, and when: as runs, and as the records that keep them on disk.
 *
 * A record has eight bytes: the length of its run, with the highest bit set for stderr, and when its first byte came, in
 * milliseconds after an epoch that they all have in common (signed). Both are little-endian.
 */
import type { OutputChunk, OutputSelection, OutputSource } from "../../Output.ts"

/** Bytes of one source that came without any of the other between them. */
export interface Run {
  readonly source: OutputSource
  /** In the log. */
  readonly offset: number
  /** In the file of its source. */
  readonly position: number
  readonly length: number
  /** When its first byte came, in milliseconds since 1970. */
  readonly at: number
}

/** What each run of bytes costs besides its bytes. */
export const recordBytes = 8
const stderrBit = 0x8000_0000
const maxRun = 0x7fff_ffff
/** A run by itself, wherever it is. */
export type Length = Pick<Run, "source" | "length" | "at">

/** How long a run takes up what comes, in milliseconds: a job that writes steadily has a hundred records a second. */
const maxDuration = 10

/** How far from the epoch a time may be, in milliseconds: 24.8 days. */
const maxDistance = 0x7fff_ffff

export const isNear = (at: number, epoch: number): boolean => Math.abs(at - epoch) <= maxDistance

/** When a chunk came, in milliseconds since 1970. */
export const timeOf = ({ at }: OutputChunk): number => Math.floor(at.epochMillis)

export const mergeRuns = (chunks: ReadonlyArray<OutputChunk>): ReadonlyArray<Length> => {
  const runs: Array<{ readonly source: OutputSource; readonly at: number; length: number }> = []
  for (const chunk of chunks) {
    const { bytes, source } = chunk
    const at = timeOf(chunk)
    const last = runs.at(-1)
    const continues = last?.source === source && Math.abs(at - last.at) < maxDuration
    if (continues && last.length + bytes.length <= maxRun) last.length += bytes.length
    else runs.push({ source, at, length: bytes.length })
  }
  return runs
}

export const recordsOf = (runs: ReadonlyArray<Length>, epoch: number): Uint8Array => {
  const bytes = new Uint8Array(runs.length * recordBytes)
  const view = new DataView(bytes.buffer)
  runs.forEach(({ at, length, source }, i) => {
    view.setUint32(i * recordBytes, source === "stderr" ? length + stderrBit : length, true)
    view.setInt32(i * recordBytes + 4, at - epoch, true)
  })
  return bytes
}

/** The runs of some records, from a place in the log and in either file on. */
export const runsOf = (
  records: Uint8Array,
  epoch: number,
  start: { readonly offset: number; readonly stdout: number; readonly stderr: number }
): ReadonlyArray<Run> => {
  const view = new DataView(records.buffer, records.byteOffset, records.byteLength)
  const runs: Array<Run> = []
  const positions = { stdout: start.stdout, stderr: start.stderr }
  let { offset } = start
  for (let at = 0; at < records.length; at += recordBytes) {
    const record = view.getUint32(at, true)
    const source = record >= stderrBit ? "stderr" : "stdout"
    const length = record & maxRun
    runs.push({ source, offset, position: positions[source], length, at: epoch + view.getInt32(at + 4, true) })
    positions[source] += length
    offset += length
  }
  return runs
}

/** What an order file begins with: the version of its format (two bytes), and the epoch (six); both little-endian. */
export const headerBytes = 8
const version = 1

export const headerOf = (epoch: number): Uint8Array => {
  const bytes = new Uint8Array(headerBytes)
  const view = new DataView(bytes.buffer)
  view.setBigUint64(0, BigInt(epoch) << 16n | BigInt(version), true)
  return bytes
}

/** What the runs have of a selection between two offsets. */
export const cutRuns = (
  runs: ReadonlyArray<Run>,
  selection: OutputSelection,
  from: number,
  to: number
): ReadonlyArray<Run> => {
  const cut: Array<Run> = []
  for (const { at, length, offset, position, source } of runs) {
    const start = Math.max(offset, from)
    const end = Math.min(offset + length, to)
    if (start < end && (selection === "all" || selection === source)) {
      cut.push({ source, offset: start, position: position + start - offset, length: end - start, at })
    }
  }
  return cut
}

/** The first runs, up to so many bytes. */
export const takeRuns = (runs: ReadonlyArray<Run>, maxBytes: number): ReadonlyArray<Run> => {
  const taken: Array<Run> = []
  let room = maxBytes
  for (const run of runs) {
    if (room <= 0) break
    taken.push({ ...run, length: Math.min(run.length, room) })
    room -= run.length
  }
  return taken
}
