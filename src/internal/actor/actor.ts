/**
 * An actor: state that one fiber at a time may touch, reached through a bounded mailbox.
 *
 * An actor with nothing to do receives a message at once, on the stack of its sender. What that calls for is done by the
 * actor's fiber, which is forked for it; what comes meanwhile waits in the mailbox, and the fiber leaves when there is
 * nothing more. So an idle actor has neither fiber nor mailbox, and a message to one costs neither: the actors of Swift
 * run the same way (SE-0306). A request is answered by resuming the asking fiber, which never blocks and costs a fraction
 * of a `Deferred`.
 */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Runtime from "effect/Runtime"
import { nextTurn } from "../time/nextTurn.ts"

/** Resumes the caller of a request. Only the first answer counts. */
export type Reply<A, E = never> = (answer: Exit.Exit<A, E>) => void

/** Makes a request of the way to answer it. */
type Request<A, E, Message> = (reply: Reply<A, E>) => Message

export interface Options<Message, Stopped> {
  /** How many requests wait in the mailbox. */
  readonly capacity: number
  /** In which the actor's fiber runs. */
  readonly runtime: Runtime.Runtime<never>
  /** What a request to a stopped actor fails with. */
  readonly stopped: () => Stopped
  /** Is told how many requests wait. */
  readonly onDepth?: (depth: number) => void
  /** Receives one message after the other. What it returns, if anything, must never wait. */
  readonly receive: (message: Message) => Effect.Effect<void> | void
}

interface Envelope<Message, Stopped> {
  readonly message: Message
  readonly refuse: Reply<never, Stopped>
  withdrawn: boolean
}

/** A fiber that asks as soon as it is answered, again and again, would never let the event loop have its turn. */
const stepsPerTurn = 512

export class Actor<Message, Stopped> {
  private readonly options: Options<Message, Stopped>
  private mailbox: Queue.Queue<Envelope<Message, Stopped>> | undefined
  private taken: Array<Envelope<Message, Stopped>> = []
  private readonly notices: Array<Message> = []
  private awake = false
  private stopped = false
  private steps = 0

  constructor(options: Options<Message, Stopped>) {
    this.options = options
  }

  /**
   * Sends a request and waits for its answer; if the mailbox has no room for it, first for that. A caller that is
   * interrupted withdraws its request: it is not received any more.
   */
  ask<A, E>(request: Request<A, E, Message>): Effect.Effect<A, E | Stopped> {
    return Effect.async((resume) => {
      const envelope = this.post(request, resume)
      return Effect.sync(() => {
        envelope.withdrawn = true
      })
    })
  }

  /** The same for a request that changes nothing: to receive it in vain is cheaper than to withdraw it. */
  query<A, E>(request: Request<A, E, Message>): Effect.Effect<A, E | Stopped> {
    return Effect.async((resume) => void this.post(request, resume))
  }

  /** Tells the actor something that must not wait for room. It is received before every request. */
  notify(message: Message): void {
    if (this.enter()) this.leave(this.receive(message))
    else this.notices.push(message)
  }

  /** From now on every request fails, those in the mailbox and before it too. Notices are still received. */
  stop(): void {
    this.stopped = true
  }

  private post<A, E>(
    request: Request<A, E, Message>,
    resume: (answer: Effect.Effect<A, E | Stopped>) => void
  ): Envelope<Message, Stopped> {
    const envelope = { message: request(resume), refuse: resume, withdrawn: false }
    if (this.stopped) resume(Exit.fail(this.options.stopped()))
    else if (this.isDue) resume(Effect.zipRight(nextTurn, this.ask(request)))
    else if (this.enter()) this.leave(this.receive(envelope.message, resume))
    else if (this.mailbox === undefined) resume(Effect.zipRight(this.open, this.ask(request)))
    else if (!this.mailbox.unsafeOffer(envelope)) resume(this.waitForRoom(this.mailbox, request))
    return envelope
  }

  private get open(): Effect.Effect<void> {
    return Effect.map(Queue.bounded<Envelope<Message, Stopped>>(this.options.capacity), (mailbox) => {
      this.mailbox ??= mailbox
    })
  }

  /** Runs in the caller's fiber, which an interruption takes out of the queue before the mailbox. */
  private waitForRoom<A, E>(
    mailbox: Queue.Enqueue<Envelope<Message, Stopped>>,
    request: Request<A, E, Message>
  ): Effect.Effect<A, E | Stopped> {
    return Effect.suspend(() => {
      let answer: Exit.Exit<A, E | Stopped> | undefined
      let resume = (exit: Exit.Exit<A, E | Stopped>) => {
        answer = exit
      }
      const reply = (exit: Exit.Exit<A, E | Stopped>) => resume(exit)
      const envelope = { message: request(reply), refuse: reply, withdrawn: false }
      return Queue.offer(mailbox, envelope).pipe(
        Effect.tap(() => Effect.sync(() => this.wake())),
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
  }

  /** Whether it is time for the event loop to have its turn. */
  private get isDue(): boolean {
    return ++this.steps % stepsPerTurn === 0
  }

  /** Begins to work, unless it does already: `true` if its sender's message can be received at once. */
  private enter(): boolean {
    if (this.awake) return false
    return this.awake = true
  }

  /** Does what that message called for, and what was sent meanwhile. */
  private leave(effect: Effect.Effect<void> | void): void {
    if (effect !== undefined) this.fork(Effect.zipRight(effect, this.run))
    else if (this.notices.length > 0 || this.depth > 0) this.fork(this.run)
    else this.awake = false
  }

  private wake(): void {
    if (this.awake) return
    this.awake = true
    this.fork(this.run)
  }

  private fork(effect: Effect.Effect<void>): void {
    Runtime.runFork(this.options.runtime)(effect)
  }

  /** Receives what there is, notices first. What needs no effect costs none. */
  private get run(): Effect.Effect<void> {
    return Effect.suspend(() => {
      while (!this.isDue) {
        const notice = this.notices.shift()
        const envelope = notice === undefined ? this.taken.shift() : undefined
        const effect = notice !== undefined
          ? this.receive(notice)
          : envelope !== undefined
          ? this.unseal(envelope)
          : this.take
        if (effect !== undefined) return Effect.zipRight(effect, this.run)
        if (!this.awake) return Effect.void
      }
      return Effect.zipRight(nextTurn, this.run)
    })
  }

  /** Empties the mailbox; if there is nothing in it, the fiber's work is done. */
  private get take(): Effect.Effect<void> | undefined {
    const { depth, mailbox } = this
    this.options.onDepth?.(depth)
    if (mailbox !== undefined && depth > 0) {
      return Effect.map(Queue.takeAll(mailbox), (envelopes) => {
        this.taken = Chunk.toArray(envelopes)
      })
    }
    this.awake = false
    return undefined
  }

  private get depth(): number {
    return this.mailbox === undefined ? 0 : Option.getOrElse(this.mailbox.unsafeSize(), () => 0)
  }

  private unseal(envelope: Envelope<Message, Stopped>): Effect.Effect<void> | void {
    if (this.stopped) envelope.refuse(Exit.fail(this.options.stopped()))
    else if (!envelope.withdrawn) return this.receive(envelope.message, envelope.refuse)
  }

  /** A defect in one message must not silence the actor, nor leave a caller without an answer. */
  private receive(message: Message, refuse?: Reply<never>): Effect.Effect<void> | void {
    try {
      const effect = this.options.receive(message)
      return effect && Effect.catchAllCause(effect, (cause) => fail(cause, refuse))
    } catch (defect) {
      return fail(Cause.die(defect), refuse)
    }
  }
}

const fail = (cause: Cause.Cause<never>, refuse: Reply<never> | undefined): Effect.Effect<void> => {
  refuse?.(Exit.failCause(cause))
  return Effect.logError("An actor failed", cause)
}
