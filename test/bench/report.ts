/**
 * Samples as medians, ratios and a table.
 */
import type { Contestant, Samples, Work } from "./work.ts"

export interface Comparison {
  readonly topic: string
  readonly title: string
  readonly unit: string
  readonly rows: ReadonlyArray<Row>
}

interface Row {
  readonly name: string
  readonly median: number
  readonly samples: ReadonlyArray<number>
  /** How the first contestant stands to this one: the median of the rounds, for a noisy moment hits both. */
  readonly ratio: number
  readonly difference: number
  readonly target: Contestant["target"]
}

export const compare = (topic: string, work: Work, samples: Samples): Comparison => {
  const names = Object.keys(work.contestants)
  const [first = []] = names.map((name) => samples[name])
  const rows = names.map((name): Row => {
    const own = samples[name] ?? []
    return {
      name,
      median: median(own),
      samples: own,
      ratio: median(first.map((sample, round) => sample / (own[round] ?? NaN))),
      difference: median(first.map((sample, round) => sample - (own[round] ?? NaN))),
      target: work.contestants[name]?.target
    }
  })
  return { topic, title: work.title, unit: work.unit, rows }
}

const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1
    ? sorted[middle] ?? NaN
    : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2
}

/** In Markdown. */
export const table = ({ rows, title, topic, unit }: Comparison): string => {
  const [first] = rows
  const cells = rows.map((row) => [
    row.name,
    format(row.median),
    `${format(Math.min(...row.samples))}–${format(Math.max(...row.samples))}`,
    row === first ? "" : `${format(row.ratio)} ×`,
    ...judge(row, unit)
  ])
  const head = [`${topic}: ${title}`, unit, "from–to", `${first?.name} / it`, "at most", ""]
  const widths = head.map((text, column) => Math.max(text.length, ...cells.map((row) => row[column]?.length ?? 0)))
  const line = (row: ReadonlyArray<string>) => `| ${row.map((text, i) => text.padEnd(widths[i] ?? 0)).join(" | ")} |`
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...cells.map(line)].join("\n")
}

const judge = ({ difference, ratio, target }: Row, unit: string): readonly [string, string] => {
  if (target === undefined) return ["", ""]
  return "ratio" in target
    ? [`${format(target.ratio)} ×`, ratio <= target.ratio ? "met" : "missed"]
    : [
      `+ ${target.difference} ${unit}`,
      `${difference <= target.difference ? "met" : "missed"} (${format(difference)})`
    ]
}

const format = (value: number): string => {
  const size = Math.abs(value)
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3)
}
