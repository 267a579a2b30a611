import { blocks } from "../programs.ts"
import { readers } from "../readers.ts"
import type { Work } from "../work.ts"

const works: ReadonlyArray<Work> = ([["pipe", 1.9], ["socket", 1.15]] as const).map(([transport, ratio]) => ({
  title: "1 reader of 512 MiB in 64 KiB writes, all kept",
  unit: "ms",
  isolated: true,
  contestants: readers(blocks(8192), 2 ** 29, ratio, transport)
}))

export default works
