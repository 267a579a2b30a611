import { blocks } from "../programs.ts"
import { readers } from "../readers.ts"
import type { Work } from "../work.ts"

const works: ReadonlyArray<Work> = [
  {
    title: "1 reader of 512 MiB in 64 KiB writes, all kept",
    unit: "ms",
    isolated: true,
    contestants: readers(blocks(8192), 2 ** 29, 1.2)
  }
]

export default works
