import { byStream, eventEmitter, joblib, pubSub } from "../fanOut.ts"
import { blocks } from "../programs.ts"
import type { Work } from "../work.ts"

const size = 256 * 2 ** 20

const work = (subscribers: number, ratio: number, toPubSub?: number): Work => {
  const broadcast = { program: blocks(size / 65_536), size, subscribers }
  return {
    title: `${subscribers} subscribers, each a Stream, to 256 MiB in 64 KiB writes`,
    unit: "ms",
    isolated: true,
    contestants: {
      "joblib": joblib(broadcast, byStream),
      "EventEmitter": eventEmitter(broadcast, ratio),
      "joblib, plain waiters for the PubSub": { ...joblib(broadcast, byStream), build: "plainWaiters" },
      // With a thousand it takes minutes.
      ...(subscribers > 100 ? {} : { "PubSub, Stream.fromPubSub": pubSub(broadcast, toPubSub) })
    }
  }
}

const works: ReadonlyArray<Work> = [work(10, 1.9), work(100, 3.3, 1 / 12), work(1000, 14)]

export default works
