import * as Fs from "node:fs"

/** Both ends of four pipes, and of the one by which Node learns how a start went. */
const perStart = 10

/** Throws, as a start would, unless there are descriptors enough for one. */
export const expectEnough = (): void => {
  const taken: Array<number> = []
  try {
    while (taken.length < perStart) taken.push(Fs.openSync("/", "r"))
  } finally {
    for (const descriptor of taken) Fs.closeSync(descriptor)
  }
}
