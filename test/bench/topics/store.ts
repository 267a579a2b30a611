import { withFiles } from "../host.ts"
import { blocks } from "../programs.ts"
import { reader } from "../readers.ts"
import type { Work } from "../work.ts"

const size = 512 * 2 ** 20
const program = blocks(size / 65_536)

const works: ReadonlyArray<Work> = [
  {
    title: "1 reader at the head of 512 MiB in 64 KiB writes",
    unit: "ms",
    isolated: true,
    warmUps: 3,
    contestants: {
      "joblib, output in files": reader(program, size, withFiles),
      "joblib, output in memory": { ...reader(program, size), target: { ratio: 2 } }
    }
  }
]

export default works
