/**
 * The files of a segment: one plain file per source, and one that says in which order their bytes came.
 */
import * as PlatformError from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"

const fileNames = ["stdout.log", "stderr.log", "order.bin"] as const

type FileName = typeof fileNames[number]

interface OpenFile {
  readonly file: FileSystem.File
  /** By which it is known from another of the same name. */
  readonly inode: number | undefined
}

/** What is to be written to one file, and where. */
export interface Part {
  readonly name: FileName
  readonly at: number
  readonly bytes: ReadonlyArray<Uint8Array>
}

export class SegmentFiles {
  private readonly directory: string
  /** The files there are, and what they are called now. */
  private readonly names = new Map<FileName, string>()
  /** The files that are open, to be written. */
  private readonly files = new Map<FileName, OpenFile>()
  private scope: Scope.CloseableScope | undefined
  /** Files are opened and renamed one at a time: the name that one has lost is soon that of another. */
  private readonly naming = Effect.unsafeMakeSemaphore(1)

  constructor(directory: string) {
    this.directory = directory
  }

  /** Writes parts, each to another file; those files stay open. */
  write(fs: FileSystem.FileSystem, parts: ReadonlyArray<Part>): Effect.Effect<void, PlatformError.PlatformError> {
    // All at once, because each step is a trip to another thread.
    return Effect.forEach(parts, (part) => this.prepare(fs, part), { concurrency: "unbounded" }).pipe(
      Effect.flatMap((writes) => Effect.all(writes, { concurrency: "unbounded", discard: true })),
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
      this.files.clear()
      return scope === undefined ? Effect.void : Scope.close(scope, Exit.void)
    })
  }

  /** Puts a number into the names. */
  rename(fs: FileSystem.FileSystem, number: string): Effect.Effect<void, PlatformError.PlatformError> {
    const rename = (name: FileName) => {
      const numbered = name.replace(".", `.${number}.`)
      return Effect.tap(
        fs.rename(this.path(name), `${this.directory}/${numbered}`),
        () => Effect.sync(() => this.names.set(name, numbered))
      )
    }
    return Effect.zipRight(
      this.rest,
      this.naming.withPermits(1)(
        Effect.forEach(fileNames.filter((name) => this.names.has(name)), rename, { discard: true })
      )
    )
  }

  remove(fs: FileSystem.FileSystem): Effect.Effect<void, PlatformError.PlatformError> {
    return Effect.zipRight(
      this.rest,
      Effect.forEach(this.names.keys(), (name) => fs.remove(this.path(name), { force: true }), { discard: true })
    )
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
    return `${this.directory}/${this.names.get(name) ?? name}`
  }

  /** How to write on at the end of what was written. Nobody else's file is touched, and none is taken for what it was. */
  private prepare(
    fs: FileSystem.FileSystem,
    { at, bytes, name }: Part
  ): Effect.Effect<Effect.Effect<void, PlatformError.PlatformError>, PlatformError.PlatformError> {
    return Effect.gen(this, function*() {
      const path = this.path(name)
      const opened = this.files.get(name)
      const { file, inode } = opened ?? (yield* this.open(fs, name))
      if (opened !== undefined || at > 0) {
        // By its name: a file that was deleted or replaced can still be written to, but not be read.
        const { ino, size } = yield* fs.stat(path)
        if (size < at || Option.getOrUndefined(ino) !== inode) return yield* truncated(path)
      }
      return Effect.zipRight(
        file.seek(FileSystem.Size(at), "start"),
        joined(bytes, (all) => file.writeAll(all))
      )
    })
  }

  private open(
    fs: FileSystem.FileSystem,
    name: FileName
  ): Effect.Effect<OpenFile, PlatformError.PlatformError> {
    return Effect.gen(this, function*() {
      // Several files may be opened at once.
      const scope = this.scope ?? (yield* Scope.make())
      this.scope ??= scope
      const flag = this.names.has(name) ? "r+" : "wx"
      const file = yield* Scope.extend(fs.open(this.path(name), { flag, mode: 0o600 }), this.scope)
      this.names.set(name, name)
      const opened = { file, inode: Option.getOrUndefined((yield* file.stat).ino) }
      this.files.set(name, opened)
      return opened
    })
  }
}

/** Uses parts as one, in memory that is used again: a new megabyte for each write costs more than to copy it. */
const joined = <A, E>(
  parts: ReadonlyArray<Uint8Array>,
  use: (bytes: Uint8Array) => Effect.Effect<A, E>
): Effect.Effect<A, E> => {
  if (parts.length === 1 && parts[0] !== undefined) return use(parts[0])
  const size = parts.reduce((size, part) => size + part.length, 0)
  return Effect.acquireUseRelease(
    Effect.sync(() => size > scratchBytes ? new Uint8Array(size) : scratches.pop() ?? new Uint8Array(scratchBytes)),
    (scratch) => {
      let position = 0
      for (const part of parts) {
        scratch.set(part, position)
        position += part.length
      }
      return use(scratch.subarray(0, size))
    },
    (scratch) =>
      Effect.sync(() => {
        if (scratch.length === scratchBytes && scratches.length < maxScratches) scratches.push(scratch)
      })
  )
}

const scratchBytes = 2 * 1024 * 1024
const maxScratches = 4
const scratches: Array<Uint8Array> = []

const truncated = (path: string) =>
  new PlatformError.SystemError({
    reason: "UnexpectedEof",
    module: "FileSystem",
    method: "read",
    pathOrDescriptor: path,
    description: "the file is not what was written, or shorter"
  })
