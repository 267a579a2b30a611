/**
 * A control group of the second version, through its files.
 */
import * as Fs from "node:fs"
import type { Signal } from "../../JobStatus.ts"
import { parseStat } from "./processTable.ts"

export class Cgroup {
  readonly path: string

  constructor(path: string) {
    this.path = path
  }

  /** A new cgroup within this one. Throws what the file system does. */
  create(name: string): Cgroup {
    const child = new Cgroup(`${this.path}/${name}`)
    Fs.mkdirSync(child.path)
    return child
  }

  /** Throws what the file system does. Some files may only be written; and none must be made where there is none. */
  write(file: string, value: string): void {
    const descriptor = Fs.openSync(`${this.path}/${file}`, Fs.constants.O_WRONLY)
    try {
      Fs.writeSync(descriptor, value)
    } finally {
      Fs.closeSync(descriptor)
    }
  }

  /** The words in a file, or none if it cannot be read. */
  words(file: string): ReadonlyArray<string> {
    try {
      return this.read(file).split(/\s+/).filter((word) => word !== "")
    } catch {
      return []
    }
  }

  /** Whether any process in it or below it is alive, zombies aside, as far as that can be found out. */
  get isPopulated(): boolean {
    try {
      return this.read("cgroup.events").includes("populated 1")
    } catch {
      return Fs.existsSync(this.path)
    }
  }

  /** Kills every process in it and below it; none escapes by forking. */
  kill(): void {
    attempt(() => this.write("cgroup.kill", "1"))
  }

  /** Signals every process in it and below it that is not in this process group. */
  signalAllBut(group: number, signal: Signal): void {
    for (const cgroup of this.family()) {
      for (const pid of cgroup.words("cgroup.procs")) {
        attempt(() => {
          const stat = parseStat(Fs.readFileSync(`/proc/${pid}/stat`, "latin1"))
          if (stat !== undefined && stat.group !== group) process.kill(Number(pid), signal)
        })
      }
    }
  }

  /** Removes it with all below it, as far as they hold no process. Whether it is gone. */
  remove(): boolean {
    for (const { path } of this.family()) attempt(() => Fs.rmdirSync(path))
    return !Fs.existsSync(this.path)
  }

  /** All below it, the deepest first, then itself. */
  private family(): ReadonlyArray<Cgroup> {
    return [...this.children().flatMap((child) => child.family()), this]
  }

  private read(file: string): string {
    return Fs.readFileSync(`${this.path}/${file}`, "latin1")
  }

  private children(): ReadonlyArray<Cgroup> {
    try {
      return Fs.readdirSync(this.path, { withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .map((entry) => new Cgroup(`${this.path}/${entry.name}`))
    } catch {
      return []
    }
  }
}

/** Of what may have gone in the meantime. */
const attempt = (change: () => void) => {
  try {
    change()
  } catch {
    // It has gone.
  }
}
