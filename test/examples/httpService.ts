/**
 * An HTTP service that runs jobs for its clients: start one, follow its output as server-sent events from any place,
 * stop it.
 */
import { HttpRouter, HttpServer, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { Config, Effect, Encoding, Fiber, Layer, Schema, Scope, Stream } from "effect"
import { createServer } from "node:http"
import { JobCoordinator, JobId, JobSpec, JobStatus, NodeProcessSpawner, type Output } from "../../src/index.ts"

/** What clients may run: names of ours, never command lines of theirs. */
export type Catalogue = Readonly<Record<string, JobSpec.JobSpec>>

const idOfPath = Effect.map(HttpRouter.schemaPathParams(Schema.Struct({ id: JobId.JobId })), ({ id }) => id)

const Offset = Schema.NumberFromString.pipe(Schema.int(), Schema.nonNegative())

/** Where a client goes on: after what it has had, which the id of its last event says. */
const resumeAt = Effect.map(
  HttpServerRequest.schemaHeaders(Schema.Struct({ "last-event-id": Schema.optional(Offset) })),
  (headers) => headers["last-event-id"] ?? 0
)

/** The id of an event is the offset of the byte after it. Bytes need not be text, so they travel as Base64. */
const toEvent = ({ bytes, offset, source }: Output.OutputChunk): string =>
  `id: ${offset + bytes.length}\nevent: ${source}\ndata: ${Encoding.encodeBase64(bytes)}\n\n`

const endEvent = (status: JobStatus.Ended): string => `event: end\ndata: ${JobStatus.format(status)}\n\n`

/** The error's tag alone: a message may tell a stranger of paths and programs. */
const refuse = (status: number) => (error: { readonly _tag: string }) =>
  HttpServerResponse.json({ error: error._tag }, { status })

export const router = (catalogue: Catalogue) =>
  Effect.map(JobCoordinator.JobCoordinator, (jobs) =>
    HttpRouter.empty.pipe(
      HttpRouter.post(
        "/jobs/:name",
        Effect.gen(function*() {
          const { name = "" } = yield* HttpRouter.params
          const spec = Object.hasOwn(catalogue, name) ? catalogue[name] : undefined
          if (spec === undefined) return HttpServerResponse.empty({ status: 404 })
          return yield* HttpServerResponse.json({ id: yield* jobs.start(spec) }, { status: 201 })
        })
      ),
      HttpRouter.get(
        "/jobs/:id/output",
        Effect.gen(function*() {
          const id = yield* idOfPath
          const from = yield* resumeAt
          yield* jobs.status(id)
          // Asked for now: when the coordinator closes, who waits already learns the true end.
          const ended = yield* Effect.forkScoped(jobs.wait(id))
          const events = jobs.output(id, { from }).pipe(
            Stream.map(toEvent),
            Stream.concat(Stream.fromEffect(Effect.map(Fiber.join(ended), endEvent))),
            // The response has begun: an error can only be told as an event.
            Stream.catchAll((error) => Stream.make(`event: error\ndata: ${error._tag}\n\n`))
          )
          return HttpServerResponse.stream(Stream.encodeText(events), {
            contentType: "text/event-stream",
            // A connection that is kept for a next request would keep the server.
            headers: { "cache-control": "no-store", connection: "close" }
          })
        })
      ),
      HttpRouter.del(
        "/jobs/:id",
        Effect.flatMap(idOfPath, (id) => jobs.stop(id)).pipe(
          Effect.flatMap((status) => HttpServerResponse.json({ status: JobStatus.format(status) }))
        )
      ),
      HttpRouter.catchTags({
        ParseError: refuse(400),
        JobNotFound: refuse(404),
        JobAlreadyEnded: refuse(409),
        JobLimitReached: refuse(503),
        CoordinatorStopped: refuse(503),
        JobStartError: refuse(500),
        InvalidJobSpec: refuse(500)
      })
    ))

export const Jobs = Layer.provide(JobCoordinator.layer, NodeProcessSpawner.layer)

/**
 * A server closes when its last response has ended, and a response that follows a job ends with the job. So the jobs end
 * first: new requests are refused, all streams get everything and end, and then nothing keeps the server but clients
 * that do not read. They have a second.
 */
export const App = (catalogue: Catalogue) => {
  const server = createServer()
  return Layer.scopedDiscard(Effect.gen(function*() {
    const scope = yield* Effect.acquireRelease(Scope.make(), Scope.close)
    const jobs = yield* Layer.buildWithScope(Jobs, scope)
    yield* HttpServer.serveEffect(yield* Effect.provide(router(catalogue), jobs))
    const cut = Effect.delay(Effect.sync(() => server.closeAllConnections()), "1 second")
    // Added last, this runs first.
    yield* Effect.addFinalizer((exit) => Scope.close(scope, exit).pipe(Effect.zipRight(Effect.forkDaemon(cut))))
  })).pipe(
    HttpServer.withLogAddress,
    Layer.provide(NodeHttpServer.layerConfig(() => server, {
      host: Config.succeed("127.0.0.1"),
      port: Config.integer("PORT").pipe(Config.withDefault(3000))
    }))
  )
}

// As the program itself: NodeRuntime.runMain(Layer.launch(App({ ... })))
