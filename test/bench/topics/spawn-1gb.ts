import type { Work } from "../work.ts"
import { contestants } from "./spawn.ts"

const jobs = 200

/** A host with a gigabyte in use, in pieces like those that a program makes; made when first measured. */
let ballast: ReadonlyArray<Uint8Array> = []
const fill = () => {
  if (ballast.length === 0) ballast = Array.from({ length: 16_384 }, () => new Uint8Array(65_536).fill(1))
}

const works: ReadonlyArray<Work> = [
  {
    title: "the same, 200 jobs, in a host that uses 1 GiB",
    unit: "ms",
    isolated: true,
    contestants: Object.fromEntries(
      Object.entries(contestants(jobs, 1.35)).map(([name, contestant]) => [name, {
        ...contestant,
        measure: () => {
          fill()
          return contestant.measure()
        }
      }])
    )
  }
]

export default works
