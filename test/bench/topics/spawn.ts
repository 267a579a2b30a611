import type { Contestant, Work } from "../work.ts"

/** Each in a process of its own, which loads what it needs and no more. */
export const contestants = (jobs: number, ratio: number): Record<string, Contestant> => ({
  "joblib": { measure: async () => (await import("../starts.ts")).joblib(jobs) },
  "plain Node, detached, both outputs read": {
    target: { ratio },
    measure: async () => {
      const { repeat, start } = await import("../plainNode.ts")
      return repeat(jobs, start)
    }
  }
})

const others = (jobs: number): Record<string, Contestant> => ({
  "execa, buffer: false": { measure: async () => (await import("../starts.ts")).byExeca(jobs) },
  "@effect/platform Command, both streams": { measure: async () => (await import("../starts.ts")).command(jobs) }
})

const works: ReadonlyArray<Work> = [
  {
    title: "start `true` and await its end, 2,000 jobs, 8 at once, each side in a process of its own",
    unit: "ms",
    isolated: true,
    contestants: { ...contestants(2000, 1.6), ...others(2000) }
  },
  {
    title: "the same, the first 400 jobs of a process",
    unit: "ms",
    isolated: true,
    warmUps: 0,
    contestants: contestants(400, 1.5)
  }
]

export default works
