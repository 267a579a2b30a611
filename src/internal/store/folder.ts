/**
 * The directory of a store, and the folder in it that a job has.
 *
 * Who may write the directory could swap a job's folder for a link to somebody else's, and have us rename and remove
 * what is there: such a directory is refused. Besides, before files are made, renamed or removed the folder is looked at
 * again. Between that look and what follows there is a moment, which only a file system with `openat` could close: what
 * root, this user, or the owner of a directory further up does in it goes unseen.
 */
import * as PlatformError from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { OpenFiles } from "./openFiles.ts"

/** In a mode: may be written by its group, or by anybody; and who does may remove nothing but what is theirs. */
const writableByOthers = 0o022
const sticky = 0o1000

export class Directory {
  private readonly fs: FileSystem.FileSystem
  private readonly openFiles: OpenFiles
  private readonly path: string
  /** Who we are: the owner of what we make. */
  private user: Option.Option<number> | undefined

  constructor(fs: FileSystem.FileSystem, openFiles: OpenFiles, path: string) {
    this.fs = fs
    this.openFiles = openFiles
    this.path = path
  }

  /** Makes a folder that is not there yet. */
  makeFolder(name: string): Effect.Effect<Folder, PlatformError.PlatformError> {
    return Effect.gen(this, function*() {
      const { fs, path } = this
      yield* fs.makeDirectory(path, { recursive: true, mode: 0o700 })
      const info = yield* fs.stat(path)
      if ((info.mode & writableByOthers) !== 0 && (info.mode & sticky) === 0) {
        return yield* refused(path, "others may write it: take that from them, as with chmod go-w")
      }
      if (this.user !== undefined) yield* this.checkOwner(info, this.user)
      const folder = `${path}/${name}`
      yield* fs.makeDirectory(folder, { mode: 0o700 })
      const made = yield* fs.stat(folder)
      const result = new Folder(fs, this.openFiles, folder, made)
      if (this.user === undefined) {
        yield* Effect.tapError(this.checkOwner(info, made.uid), () => Effect.ignore(result.remove))
        this.user = made.uid
      }
      return result
    })
  }

  private checkOwner(
    { uid }: FileSystem.File.Info,
    user: Option.Option<number>
  ): Effect.Effect<void, PlatformError.PlatformError> {
    return Option.isNone(uid) || uid.value === 0 || Option.contains(user, uid.value)
      ? Effect.void
      : refused(this.path, `it belongs to user ${uid.value}, who may replace what is in it`)
  }
}

export class Folder {
  readonly fs: FileSystem.FileSystem
  readonly openFiles: OpenFiles
  readonly path: string
  private readonly made: FileSystem.File.Info

  constructor(fs: FileSystem.FileSystem, openFiles: OpenFiles, path: string, made: FileSystem.File.Info) {
    this.fs = fs
    this.openFiles = openFiles
    this.path = path
    this.made = made
  }

  /**
   * Whether it is there; fails if something else is in its place. A link needs no look of its own: it either leads to
   * another folder, or to this one, and then does no harm.
   */
  get isThere(): Effect.Effect<boolean, PlatformError.PlatformError> {
    return Effect.flatMap(statIfThere(this.fs, this.path), (found) => {
      if (Option.isNone(found)) return Effect.succeed(false)
      return found.value.dev === this.made.dev && isSameFile(found.value, this.made)
        ? Effect.succeed(true)
        : refused(this.path, "it is not the folder that was made for the job")
    })
  }

  /** Fails if it is not there, or something else is. */
  get check(): Effect.Effect<void, PlatformError.PlatformError> {
    return Effect.filterOrFail(this.isThere, (isThere) => isThere, () => missing(this.path))
  }

  /** Removes it and all that is in it, if it is there. */
  get remove(): Effect.Effect<void, PlatformError.PlatformError> {
    return Effect.flatMap(this.isThere, (isThere) =>
      // To read a folder takes a descriptor.
      isThere
        ? this.openFiles.patiently(this.fs.remove(this.path, { recursive: true, force: true }))
        : Effect.void)
  }
}

export const statIfThere = (
  fs: FileSystem.FileSystem,
  path: string
): Effect.Effect<Option.Option<FileSystem.File.Info>, PlatformError.PlatformError> =>
  Effect.catchIf(
    Effect.map(fs.stat(path), Option.some),
    (error) => error._tag === "SystemError" && error.reason === "NotFound",
    () => Effect.succeedNone
  )

/** By its number: a name may soon be that of another. */
export const isSameFile = (
  one: Pick<FileSystem.File.Info, "ino">,
  other: Pick<FileSystem.File.Info, "ino">
): boolean => Option.getOrUndefined(one.ino) === Option.getOrUndefined(other.ino)

export const refused = (path: string, description: string): PlatformError.SystemError =>
  new PlatformError.SystemError({
    reason: "PermissionDenied",
    module: "FileSystem",
    method: "stat",
    pathOrDescriptor: path,
    description
  })

const missing = (path: string): PlatformError.SystemError =>
  new PlatformError.SystemError({
    reason: "NotFound",
    module: "FileSystem",
    method: "stat",
    pathOrDescriptor: path,
    description: "the folder of the job was removed"
  })
