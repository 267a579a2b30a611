/**
 * The files of a segment: one plain file per source, and one that says in which order their bytes came.
 */
import * as PlatformError from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { type Folder, isSameFile, refused, statIfThere } from "./folder.ts"
import { joined } from "./scratch.ts"

type FileName = "stdout.log" | "stderr.log" | "order.bin"

/** A file there is. */
interface KnownFile {
  /** What it is called now. */
  name: string
  /** By which it is known from another of the same name. */
  ino: Option.Option<number>
}

/** What is to be written to one file, and where. */
export interface Part {
  readonly name: FileName
  readonly at: number
  readonly bytes: ReadonlyArray<Uint8Array>
}

/** From how many bytes on it is quicker to write to several files at once, though that takes more CPU time. */
const muchToWrite = 64 * 1024

export class SegmentFiles {
  private readonly folder: Folder
  private readonly known = new Map<FileName, KnownFile>()
  private removed = false
  /** Files are opened and renamed one at a time: the name that one has lost is soon that of another. */
  private readonly naming = Effect.unsafeMakeSemaphore(1)
  /** By these the files that are open are known. */
  private readonly owners = { "stdout.log": {}, "stderr.log": {}, "order.bin": {} }

  constructor(folder: Folder) {
    this.folder = folder
  }

  /** Writes parts, each to another file; those files stay open for a while. */
  write(parts: ReadonlyArray<Part>): Effect.Effect<void, PlatformError.PlatformError> {
    const writing = sizeOf(parts) < muchToWrite
      ? Effect.forEach(parts, (part) => this.writePart(part), { discard: true })
      : atOnce(parts, (part) => this.writePart(part))
    return writing.pipe(
      Effect.tapErrorCause(() => this.rest),
      // What is made must be known, to be removed.
      Effect.uninterruptible
    )
  }

  /** Closes what is open. */
  get rest(): Effect.Effect<void> {
    return Effect.suspend(() =>
      atOnce(Array.from(this.known.keys()), (name) => this.folder.openFiles.close(this.owners[name]))
    )
  }

  /** Puts a number into the names, and closes what is open. Nothing that has such a name already is overwritten. */
  rename(number: string): Effect.Effect<void, PlatformError.PlatformError> {
    const { fs, path: folder } = this.folder
    const rename = (file: FileName, known: KnownFile) => {
      const name = file.replace(".", `.${number}.`)
      const to = `${folder}/${name}`
      return Effect.gen(this, function*() {
        yield* this.checkFile(file, yield* fs.stat(this.path(file)))
        if (Option.isSome(yield* statIfThere(fs, to))) return yield* refused(to, "there is something of this name")
        yield* fs.rename(this.path(file), to)
        known.name = name
      })
    }
    const renames = Effect.suspend(() => atOnce(Array.from(this.known), ([file, known]) => rename(file, known)))
    const renaming = this.naming.withPermits(1)(Effect.zipRight(this.folder.check, renames))
    return Effect.uninterruptible(Effect.zip(this.rest, renaming, { concurrent: true }))
  }

  /** Removes the files, but nothing that somebody else has put in their place. */
  get remove(): Effect.Effect<void, PlatformError.PlatformError> {
    const { fs } = this.folder
    const removeFile = (file: FileName) =>
      Effect.flatMap(statIfThere(fs, this.path(file)), (found) =>
        Option.isNone(found)
          ? Effect.void
          : Effect.zipRight(this.checkFile(file, found.value), fs.remove(this.path(file), { force: true })))
    const removeAll = Effect.forEach(this.known.keys(), removeFile, { discard: true })
    return Effect.suspend(() => {
      this.removed = true
      return Effect.zipRight(
        this.rest,
        Effect.flatMap(this.folder.isThere, (isThere) => isThere ? removeAll : Effect.void)
      )
    })
  }

  /** So many bytes of a file, or an error. */
  read(name: FileName, position: number, length: number): Effect.Effect<Uint8Array, PlatformError.PlatformError> {
    const { fs, openFiles } = this.folder
    return Effect.scoped(Effect.gen(this, function*() {
      const open = Effect.suspend(() => fs.open(this.path(name), { flag: "r" }))
      const file = yield* openFiles.patiently(this.naming.withPermits(1)(open))
      // What is open now stays readable; but a name, and the inode, of what was removed may be those of another.
      yield* this.checkFile(name, yield* file.stat)
      if (this.removed) return yield* truncated(this.path(name))
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
    return `${this.folder.path}/${this.known.get(name)?.name ?? name}`
  }

  /** Writes on at the end of what was written. Nobody else's file is touched, and none is taken for what it was. */
  private writePart({ at, bytes, name }: Part): Effect.Effect<void, PlatformError.PlatformError> {
    const { fs, openFiles } = this.folder
    return openFiles.use(
      this.owners[name],
      this.openFile(name),
      (file, wasOpen) =>
        Effect.gen(this, function*() {
          // By its name, if it was open already: what was deleted or replaced can still be written to, but not be read.
          const info = yield* wasOpen ? fs.stat(this.path(name)) : file.stat
          yield* this.checkFile(name, info)
          if (info.size < at) return yield* truncated(this.path(name))
          yield* file.seek(FileSystem.Size(at), "start")
          yield* joined(bytes, (all) => file.writeAll(all))
        })
    )
  }

  private openFile(name: FileName): Effect.Effect<FileSystem.File, PlatformError.PlatformError, Scope.Scope> {
    return Effect.suspend(() => {
      const { folder } = this
      if (this.known.has(name)) return folder.fs.open(this.path(name), { flag: "r+" })
      return Effect.gen(this, function*() {
        yield* folder.check
        const file = yield* folder.fs.open(this.path(name), { flag: "wx", mode: 0o600 })
        const known: KnownFile = { name, ino: Option.none() }
        this.known.set(name, known)
        known.ino = (yield* file.stat).ino
        return file
      })
    })
  }

  /** Fails if this is not the file that was made. */
  private checkFile(
    name: FileName,
    info: FileSystem.File.Info
  ): Effect.Effect<void, PlatformError.PlatformError> {
    const { ino = Option.none() } = this.known.get(name) ?? {}
    return isSameFile(info, { ino }) ? Effect.void : truncated(this.path(name))
  }
}

const sizeOf = (parts: ReadonlyArray<Part>): number =>
  parts.reduce((size, { bytes }) => bytes.reduce((size, part) => size + part.length, size), 0)

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
