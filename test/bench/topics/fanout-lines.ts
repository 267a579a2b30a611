import { byStream, eventEmitter, joblib, pubSub } from "../fanOut.ts"
import { lines } from "../programs.ts"
import type { Work } from "../work.ts"

const count = 819 * 244
const broadcast = { program: lines(count), size: count * 80, subscribers: 100 }

const works: ReadonlyArray<Work> = [
  {
    title: "100 subscribers, each a Stream, to 200,000 lines of 80 bytes, one write each",
    unit: "ms",
    isolated: true,
    contestants: {
      "joblib": joblib(broadcast, byStream),
      "EventEmitter": eventEmitter(broadcast, 2.5),
      "joblib, plain waiters for the PubSub": { ...joblib(broadcast, byStream), build: "plainWaiters" },
      "PubSub, Stream.fromPubSub": pubSub(broadcast)
    }
  }
]

export default works
