/**
 * In which order the bytes of two sources came: as runs, and as the records that keep them on disk.
 *
 * A record has four bytes (little-endian): the length of its run, with the highest bit set for stderr.
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
}

/** What each run of bytes costs besides its bytes. */
export const recordBytes = 4
const stderrBit = 0x8000_0000
const maxRun = 0x7fff_ffff
/** A run by itself, wherever it is. */
type Length = Pick<Run, "source" | "length">

export const mergeRuns = (chunks: ReadonlyArray<OutputChunk>): ReadonlyArray<Length> => {
  const runs: Array<{ readonly source: OutputSource; length: number }> = []
  for (const { bytes, source } of chunks) {
    const last = runs.at(-1)
    if (last?.source === source && last.length + bytes.length <= maxRun) last.length += bytes.length
    else runs.push({ source, length: bytes.length })
  }
  return runs
}

export const recordsOf = (runs: ReadonlyArray<Length>): Uint8Array => {
  const bytes = new Uint8Array(runs.length * recordBytes)
  const view = new DataView(bytes.buffer)
  runs.forEach(({ length, source }, i) => {
    view.setUint32(i * recordBytes, source === "stderr" ? length + stderrBit : length, true)
  })
  return bytes
}

/** The runs of some records, from a place in the log and in either file on. */
export const runsOf = (
  records: Uint8Array,
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
    runs.push({ source, offset, position: positions[source], length })
    positions[source] += length
    offset += length
  }
  return runs
}

/** What the runs have of a selection between two offsets. */
export const cutRuns = (
  runs: ReadonlyArray<Run>,
  selection: OutputSelection,
  from: number,
  to: number
): ReadonlyArray<Run> => {
  const cut: Array<Run> = []
  for (const { length, offset, position, source } of runs) {
    const start = Math.max(offset, from)
    const end = Math.min(offset + length, to)
    if (start < end && (selection === "all" || selection === source)) {
      cut.push({ source, offset: start, position: position + start - offset, length: end - start })
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
