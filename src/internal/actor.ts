/**
 * An actor: state that one fiber at a time may touch, reached through a bounded mailbox.
 *
 * The fiber runs while there is mail and leaves when there is none: an idle actor costs its mailbox alone. A request is
 * answered by resuming the asking fiber, which never blocks and costs a fraction of a `Deferred`.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Runtime from "effect/Runtime"
import { nextTurn } from "./nextTurn.ts"

/** Resumes the caller of a request. Only the first answer counts. */
export type Reply<A, E = never> = (answer: Exit.Exit<A, E>) => void

export interface Actor<in Message, out Stopped> {
  /**
   * Puts a request into the mailbox, waiting for room if there is none, and waits for its answer. A caller that is
   * interrupted withdraws its request: it is not received any more.
   */
  readonly ask: <A, E>(request: (reply: Reply<A, E>) => Message) => Effect.Effect<A, E | Stopped>
  /** The same for a request that changes nothing: to receive it in vain is cheaper than to withdraw it. */
  readonly query: <A, E>(request: (reply: Reply<A, E>) => Message) => Effect.Effect<A, E | Stopped>
  /** Tells the actor something that must not wait for room. It is received before every request. */
  readonly notify: (message: Message) => void
  /** From now on every request fails, those in the mailbox and before it too. Notices are still received. */
  readonly stop: () => void
}

export interface Options<Message, Stopped> {
  /** How many requests wait in the mailbox. */
  readonly capacity: number
  /** In which the actor's fiber runs. */
  readonly runtime: Runtime.Runtime<never>
  /** What a request to a stopped actor fails with. */
  readonly stopped: () => Stopped
  /** Is told how many requests wait. */
  readonly onDepth?: (depth: number) => void
  /** Receives one message after the other. It must never wait. */
  readonly receive: (message: Message) => Effect.Effect<void>
}

interface Envelope<Message, Stopped> {
  readonly message: Message
  readonly refuse: Reply<never, Stopped>
  withdrawn: boolean
}

/** A fiber that asks as soon as it is answered, again and again, would never let the event loop have its turn. */
const stepsPerTurn = 512

export const make = <Message, Stopped>(options: Options<Message, Stopped>): Effect.Effect<Actor<Message, Stopped>> =>
  Effect.map(Queue.bounded<Envelope<Message, Stopped>>(options.capacity), (mailbox) => {
    const fork = Runtime.runFork(options.runtime)
    let notices: Array<Message> = []
    let awake = false
    let steps = 0
    let stopped = false

    const wake = () => {
      if (awake) return
      awake = true
      fork(run, { immediate: false })
    }

    const run: Effect.Effect<void> = Effect.suspend(() => {
      if (++steps % stepsPerTurn === 0) return Effect.zipRight(nextTurn, run)
      if (notices.length > 0) return Effect.zipRight(receiveNotices, run)
      const depth = size(mailbox)
      options.onDepth?.(depth)
      if (depth > 0) return Effect.flatMap(Queue.take(mailbox), open)
      awake = false
      return Effect.void
    })

    const receiveNotices = Effect.suspend(() => {
      const batch = notices
      notices = []
      return batch.length === 1
        ? receive(batch[0] as Message)
        : Effect.forEach(batch, (notice) => receive(notice), { discard: true })
    })

    const open = (envelope: Envelope<Message, Stopped>): Effect.Effect<void> => {
      // A notice that came while the envelope was taken goes before it.
      if (notices.length > 0) return Effect.flatMap(receiveNotices, () => open(envelope))
      if (stopped) envelope.refuse(Exit.fail(options.stopped()))
      else if (!envelope.withdrawn) return Effect.zipRight(receive(envelope.message, envelope), run)
      return run
    }

    // A defect in one message must not silence the actor, nor leave a caller without an answer.
    const receive = (message: Message, envelope?: Envelope<Message, Stopped>) =>
      Effect.catchAllCause(options.receive(message), (cause) => {
        envelope?.refuse(Exit.failCause(cause))
        return Effect.logError("An actor failed", cause)
      })

    const post = <A, E>(
      request: (reply: Reply<A, E>) => Message,
      resume: (answer: Effect.Effect<A, E | Stopped>) => void
    ): Envelope<Message, Stopped> => {
      const envelope = { message: request(resume), refuse: resume, withdrawn: false }
      if (stopped) resume(Exit.fail(options.stopped()))
      else if (mailbox.unsafeOffer(envelope)) wake()
      else resume(waitForRoom(request))
      return envelope
    }

    /** Runs in the caller's fiber, which an interruption takes out of the queue before the mailbox. */
    const waitForRoom = <A, E>(request: (reply: Reply<A, E>) => Message): Effect.Effect<A, E | Stopped> =>
      Effect.suspend(() => {
        let answer: Exit.Exit<A, E | Stopped> | undefined
        let resume = (exit: Exit.Exit<A, E | Stopped>) => {
          answer = exit
        }
        const reply = (exit: Exit.Exit<A, E | Stopped>) => resume(exit)
        const envelope = { message: request(reply), refuse: reply, withdrawn: false }
        return Queue.offer(mailbox, envelope).pipe(
          Effect.tap(() => Effect.sync(wake)),
          Effect.zipRight(Effect.async<A, E | Stopped>((caller) => {
            if (answer === undefined) resume = caller
            else caller(answer)
          })),
          Effect.onInterrupt(() =>
            Effect.sync(() => {
              envelope.withdrawn = true
            })
          )
        )
      })

    return {
      query: <A, E>(request: (reply: Reply<A, E>) => Message) =>
        Effect.async<A, E | Stopped>((resume) => void post(request, resume)),
      ask: <A, E>(request: (reply: Reply<A, E>) => Message) =>
        Effect.async<A, E | Stopped>((resume) => {
          const envelope = post(request, resume)
          return Effect.sync(() => {
            envelope.withdrawn = true
          })
        }),
      notify: (message) => {
        notices.push(message)
        wake()
      },
      stop: () => {
        stopped = true
        wake()
      }
    }
  })

const size = <A>(queue: Queue.Queue<A>): number => Option.getOrElse(queue.unsafeSize(), () => 0)
