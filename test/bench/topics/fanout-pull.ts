import { byPull, eventEmitter, joblib } from "../fanOut.ts"
import { blocks } from "../programs.ts"
import type { Work } from "../work.ts"

const size = 256 * 2 ** 20

const work = (subscribers: number, ratio: number): Work => {
  const broadcast = { program: blocks(size / 65_536), size, subscribers }
  return {
    title: `${subscribers} subscribers, each by pull, to 256 MiB in 64 KiB writes`,
    unit: "ms",
    isolated: true,
    contestants: {
      "joblib": joblib(broadcast, byPull),
      "EventEmitter": eventEmitter(broadcast, ratio),
      "joblib, plain waiters for the PubSub": { ...joblib(broadcast, byPull), build: "plainWaiters" }
    }
  }
}

const works: ReadonlyArray<Work> = [work(10, 1.7), work(100, 2.4), work(1000, 6.5)]

export default works
