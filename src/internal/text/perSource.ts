import * as Channel from "effect/Channel"
import * as Chunk from "effect/Chunk"
import * as Stream from "effect/Stream"

type Source = "stdout" | "stderr"

interface Part {
  readonly source: Source
  readonly bytes: Uint8Array
}

/** Takes the bytes of one source as they come, and is told when there are no more. */
export interface Transformer {
  readonly push: (bytes: Uint8Array) => void
  readonly end: () => void
}

/** Runs a transformer for each source; all that they emit for one chunk of the stream leaves as one chunk. */
export const transform = <A, E, R>(
  output: Stream.Stream<Part, E, R>,
  make: (source: Source, emit: (a: A) => void) => Transformer
): Stream.Stream<A, E, R> =>
  Stream.suspend(() => {
    let emitted: Array<A> = []
    const emit = (a: A) => {
      emitted.push(a)
    }
    const transformers = { stdout: make("stdout", emit), stderr: make("stderr", emit) }

    const flush = () => {
      if (emitted.length === 0) return Channel.void
      const chunk = Chunk.unsafeFromArray(emitted)
      emitted = []
      return Channel.write(chunk)
    }
    const end = () => {
      transformers.stdout.end()
      transformers.stderr.end()
      return flush()
    }
    const loop: Channel.Channel<Chunk.Chunk<A>, Chunk.Chunk<Part>, E, E, unknown, unknown> = Channel.readWithCause({
      onInput: (parts: Chunk.Chunk<Part>) => {
        for (const { bytes, source } of parts) transformers[source].push(bytes)
        return Channel.flatMap(flush(), () => loop)
      },
      onFailure: (cause) => Channel.flatMap(end(), () => Channel.failCause(cause)),
      onDone: end
    })
    return Stream.pipeThroughChannel(output, loop)
  })
