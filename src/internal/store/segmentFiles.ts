/**
 * The files of a segment: one plain file per source, and one that says in which order their bytes came.
 */
import * as PlatformError from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { joined } from "./scratch.ts"

type FileName = "stdout.log" | "stderr.log" | "order.bin"

/** A file there is. */
interface KnownFile {
  /** What it is called now. */
  name: string
  /** By which it is known from another of the same name. */
  inode: Option.Option<number>
}

/** What is to be written to one file, and where. */
export interface Part {
  readonly name: FileName
  readonly at: number
  readonly bytes: ReadonlyArray<Uint8Array>
}

export class SegmentFiles {
  private readonly directory: string
  private readonly known = new Map<FileName, KnownFile>()
  /** The files that are open, to be written. */
  private readonly open = new Map<FileName, FileSystem.File>()
  private scope: Scope.CloseableScope | undefined
  private removed = false
  /** Files are opened and renamed one at a time: the name that one has lost is soon that of another. */
  private readonly naming = Effect.unsafeMakeSemaphore(1)

  constructor(directory: string) {
    this.directory = directory
  }

  /** Writes parts, each to another file; those files stay open. */
  write(fs: FileSystem.FileSystem, parts: ReadonlyArray<Part>): Effect.Effect<void, PlatformError.PlatformError> {
    return atOnce(parts, (part) => this.writePart(fs, part)).pipe(
      Effect.tapErrorCause(() => this.rest),
      // What is made must be known, to be removed.
      Effect.uninterruptible
    )
  }

  /** Closes what is open. */
  get rest(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { scope } = this
      this.scope = undefined
      this.open.clear()
      return scope === undefined ? Effect.void : Scope.close(scope, Exit.void)
    })
  }

  /** Puts a number into the names, and closes what is open. */
  rename(fs: FileSystem.FileSystem, number: string): Effect.Effect<void, PlatformError.PlatformError> {
    const rename = ([file, known]: [FileName, KnownFile]) => {
      const name = file.replace(".", `.${number}.`)
      return Effect.map(fs.rename(this.path(file), `${this.directory}/${name}`), () => {
        known.name = name
      })
    }
    const renames = Effect.suspend(() => atOnce(Array.from(this.known), rename))
    return Effect.uninterruptible(atOnce([this.rest, this.naming.withPermits(1)(renames)], identity))
  }

  remove(fs: FileSystem.FileSystem): Effect.Effect<void, PlatformError.PlatformError> {
    return Effect.suspend(() => {
      this.removed = true
      return Effect.zipRight(
        this.rest,
        Effect.forEach(this.known.keys(), (name) => fs.remove(this.path(name), { force: true }), { discard: true })
      )
    })
  }

  /** So many bytes of a file, or an error. */
  read(
    fs: FileSystem.FileSystem,
    name: FileName,
    position: number,
    length: number
  ): Effect.Effect<Uint8Array, PlatformError.PlatformError> {
    return Effect.scoped(Effect.gen(this, function*() {
      const file = yield* this.naming.withPermits(1)(Effect.suspend(() => fs.open(this.path(name), { flag: "r" })))
      // What is open now stays readable; but a name, and the inode, of what was removed may be those of another.
      if (!this.isSame(name, yield* file.stat) || this.removed) return yield* truncated(this.path(name))
      yield* file.seek(FileSystem.Size(position), "start")
      const bytes = new Uint8Array(length)
      let filled = 0
      while (filled < length) {
        const count = Number(yield* file.read(bytes.subarray(filled)))
        if (count === 0) return yield* truncated(this.path(name))
        filled += count
      }
      return bytes
    }))
  }

  private path(name: FileName): string {
    return `${this.directory}/${this.known.get(name)?.name ?? name}`
  }

  /** Writes on at the end of what was written. Nobody else's file is touched, and none is taken for what it was. */
  private writePart(
    fs: FileSystem.FileSystem,
    { at, bytes, name }: Part
  ): Effect.Effect<void, PlatformError.PlatformError> {
    return Effect.gen(this, function*() {
      const path = this.path(name)
      const open = this.open.get(name)
      const file = open ?? (yield* this.openFile(fs, name))
      // By its name, if it was open already: what was deleted or replaced can still be written to, but not be read.
      const info = yield* open === undefined ? file.stat : fs.stat(path)
      if (info.size < at || !this.isSame(name, info)) return yield* truncated(path)
      yield* file.seek(FileSystem.Size(at), "start")
      yield* joined(bytes, (all) => file.writeAll(all))
    })
  }

  private openFile(
    fs: FileSystem.FileSystem,
    name: FileName
  ): Effect.Effect<FileSystem.File, PlatformError.PlatformError> {
    return Effect.gen(this, function*() {
      // Several files may be opened at once.
      const scope = this.scope ?? (yield* Scope.make())
      this.scope ??= scope
      const isNew = !this.known.has(name)
      const file = yield* Scope.extend(
        fs.open(this.path(name), { flag: isNew ? "wx" : "r+", mode: 0o600 }),
        this.scope
      )
      if (isNew) {
        const known: KnownFile = { name, inode: Option.none() }
        this.known.set(name, known)
        known.inode = (yield* file.stat).ino
      }
      this.open.set(name, file)
      return file
    })
  }

  private isSame(name: FileName, { ino }: FileSystem.File.Info): boolean {
    return Option.getOrUndefined(ino) === Option.getOrUndefined(this.known.get(name)?.inode ?? Option.none())
  }
}

/** All at once, because each step is a trip to another thread and back. */
const atOnce = <A, B, E>(
  items: ReadonlyArray<A>,
  use: (item: A) => Effect.Effect<B, E>
): Effect.Effect<void, E> => Effect.forEach(items, use, { concurrency: "unbounded", discard: true })

const truncated = (path: string) =>
  new PlatformError.SystemError({
    reason: "UnexpectedEof",
    module: "FileSystem",
    method: "read",
    pathOrDescriptor: path,
    description: "the file is not what was written, or shorter"
  })
