import { lines } from "../programs.ts"
import { readers } from "../readers.ts"
import type { Work } from "../work.ts"

const count = 819 * 1024

const works: ReadonlyArray<Work> = [
  {
    title: "1 reader of 64 MiB in lines of 80 bytes, one write each, all kept",
    unit: "ms",
    isolated: true,
    contestants: readers(lines(count), count * 80, 0.9)
  }
]

export default works
