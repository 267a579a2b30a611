/**
 * What is measured: the same work, done by several contestants.
 */

export interface Work {
  readonly title: string
  readonly unit: "ms" | "µs" | "KiB" | "MiB"
  /** The first one is measured against all others. */
  readonly contestants: Readonly<Record<string, Contestant>>
  /** Whether every measurement has a process of its own, because what one leaves in memory would change the next. */
  readonly isolated?: boolean
  /** How often a contestant works unmeasured, to be compiled. Default: once. */
  readonly warmUps?: number
}

export interface Contestant {
  /** Works, and gives what it took: the less the better. */
  readonly measure: () => Promise<number>
  /** What the first contestant takes at most, as a multiple of what this one takes, or as a difference. */
  readonly target?: { readonly ratio: number } | { readonly difference: number }
  /** The library it runs with; default: as it is. */
  readonly build?: "pubsub" | "plainWaiters"
}

/** What the contestants of a topic took, a number for each round. */
export type Samples = Readonly<Record<string, ReadonlyArray<number>>>

/** The works of a topic, from the build that runs; the address is spelled so that the bundler leaves it alone. */
export const importTopic = async (topic: string): Promise<ReadonlyArray<Work>> => {
  const module = await import(new URL(`topics/${topic}.js`, import.meta.url).href)
  return module.default
}
