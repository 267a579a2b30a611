/**
 * An actor: a fiber that owns some state, and reads messages from one bounded queue, its mailbox.
 *
 * A request waits until the mailbox has room, and is answered by resuming its caller, which never blocks and costs a
 * fraction of a `Deferred`. A notice never waits: it goes into a lane of its own, which the fiber empties before every
 * request. No message is received on the stack of its sender.
 */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as MutableQueue from "effect/MutableQueue"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"
import { nextTurn } from "../time/nextTurn.ts"

/** Resumes the caller of a request. Only the first answer counts. */
export type Reply<A, E = never> = (answer: Exit.Exit<A, E>) => void

/** Receives one message after the other. What it returns, if anything, must never wait. */
export type Receive<Message> = (message: Message) => Effect.Effect<void> | void

export interface Options<Stopped> {
  /** How many requests the mailbox holds. */
  readonly capacity: number
  /** In which the actor's fiber runs. */
  readonly runtime: Runtime.Runtime<never>
  /** What a request to a stopped actor fails with. */
  readonly stopped: () => Stopped
  /** Is told how many requests the mailbox holds, each time before it is emptied. */
  readonly onDepth?: (depth: number) => void
}

interface Letter<Message, Stopped> {
  readonly message: Message
  readonly refuse: Reply<never, Stopped>
  withdrawn: boolean
}

/** Those who ask again as soon as they are answered would never let the event loop have its turn. */
const messagesPerTurn = 512

export const make = <Message, Stopped>(options: Options<Stopped>): Effect.Effect<Actor<Message, Stopped>> =>
  Effect.map(
    Queue.bounded<Letter<Message, Stopped>>(options.capacity),
    (mailbox) => new Actor(mailbox, options)
  )

export class Actor<Message, Stopped> {
  /** Let go of when the fiber leaves: an ended job keeps its worker. */
  private mailbox: Queue.Queue<Letter<Message, Stopped>> | undefined
  private readonly options: Options<Stopped>
  private receive: Receive<Message> = () => {}
  private readonly notices = MutableQueue.unbounded<Message>()
  /** Out of the mailbox, the next one at the end: a long array takes long to shift. */
  private letters: Array<Letter<Message, Stopped>> = []
  private received = 0
  /** Resumes the fiber, while it has nothing to do. */
  private resume: ((effect: Effect.Effect<void>) => void) | undefined
  private stopped = false
  private closed = false

  constructor(mailbox: Queue.Queue<Letter<Message, Stopped>>, options: Options<Stopped>) {
    this.mailbox = mailbox
    this.options = options
  }

  /** Forks the fiber, which receives all that was sent until the scope closes, and leaves then. */
  start(receive: Receive<Message>, scope: Scope.Scope): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.receive = receive
      const fiber = Runtime.runFork(this.options.runtime)(Effect.uninterruptible(this.work))
      return Scope.addFinalizer(scope, this.close(fiber))
    })
  }

  /**
   * Sends a request and waits for its answer; if the mailbox has no room for it, first for that. A caller that is
   * interrupted withdraws its request: it is not received any more.
   */
  ask<A, E>(request: (reply: Reply<A, E>) => Message): Effect.Effect<A, E | Stopped> {
    return Effect.async((resume) => {
      const letter = { message: request(resume), refuse: resume, withdrawn: false }
      if (!this.post(letter)) resume(this.askInTurn(request))
      return Effect.sync(() => {
        letter.withdrawn = true
      })
    })
  }

  /** The same for a request that changes nothing: to receive it in vain is cheaper than to withdraw it. */
  query<A, E>(request: (reply: Reply<A, E>) => Message): Effect.Effect<A, E | Stopped> {
    return Effect.async((resume) => {
      if (!this.post({ message: request(resume), refuse: resume, withdrawn: false })) resume(this.askInTurn(request))
    })
  }

  /** Tells the actor something that must not wait for room; nobody, once its fiber has left. */
  notify(message: Message): void {
    if (this.mailbox === undefined) return
    MutableQueue.offer(this.notices, message)
    this.wake()
  }

  /** From now on every request fails, those in the mailbox and before it too. Notices are still received. */
  stop(): void {
    this.stopped = true
  }

  /** Sends a letter; `false`: there is no room for it. */
  private post(letter: Letter<Message, Stopped>): boolean {
    const { mailbox, options, stopped } = this
    if (stopped || mailbox === undefined) letter.refuse(Exit.fail(options.stopped()))
    else if (mailbox.unsafeOffer(letter)) this.wake()
    else return false
    return true
  }

  /** Waits for room in the caller's fiber, which an interruption takes out of the queue: one of its own costs more. */
  private askInTurn<A, E>(request: (reply: Reply<A, E>) => Message): Effect.Effect<A, E | Stopped> {
    return Effect.suspend(() => {
      const { mailbox } = this
      if (mailbox === undefined) return Effect.fail(this.options.stopped())
      let answer: Exit.Exit<A, E | Stopped> | undefined
      let resume: Reply<A, E | Stopped> = (exit) => {
        answer ??= exit
      }
      const reply: Reply<A, E | Stopped> = (exit) => resume(exit)
      const letter = { message: request(reply), refuse: reply, withdrawn: false }
      return Queue.offer(mailbox, letter).pipe(
        // The fiber may have slept, or left, in the meantime.
        Effect.zipRight(Effect.async<A, E | Stopped>((caller) => {
          resume = caller
          if (answer !== undefined) caller(answer)
          else if (this.mailbox === undefined) caller(Exit.fail(this.options.stopped()))
          else this.wake()
        })),
        Effect.onInterrupt(() =>
          Effect.sync(() => {
            letter.withdrawn = true
          })
        )
      )
    })
  }

  /** An actor may close its own scope; then its fiber leaves as soon as it has received what there is. */
  private close(fiber: Fiber.RuntimeFiber<void>): Effect.Effect<void> {
    return Effect.fiberIdWith((closer) => {
      this.stop()
      this.closed = true
      this.wake()
      return Equal.equals(closer, fiber.id()) ? Effect.void : Effect.asVoid(Fiber.await(fiber))
    })
  }

  private wake(): void {
    const { resume } = this
    this.resume = undefined
    resume?.(Effect.void)
  }

  /** Receives what there is, notices first. What needs no effect costs none. */
  private readonly work: Effect.Effect<void> = Effect.suspend(() => {
    while (!MutableQueue.isEmpty(this.notices) || this.letters.length > 0) {
      if (++this.received % messagesPerTurn === 0) return Effect.zipRight(nextTurn, this.work)
      const notice = MutableQueue.poll(this.notices, undefined)
      const effect = notice === undefined ? this.open(this.letters.pop()) : this.attempt(notice)
      if (effect !== undefined) return Effect.zipRight(effect, this.work)
    }
    const { depth, mailbox } = this
    if (mailbox !== undefined && depth > 0) return this.empty(mailbox, depth)
    if (!this.closed) return Effect.zipRight(this.wait, this.work)
    this.mailbox = undefined
    return Effect.void
  })

  private empty(mailbox: Queue.Queue<Letter<Message, Stopped>>, depth: number): Effect.Effect<void> {
    this.options.onDepth?.(depth)
    return Effect.flatMap(Queue.takeAll(mailbox), (letters) => {
      this.letters = Chunk.toArray(letters).reverse()
      return this.work
    })
  }

  private get wait(): Effect.Effect<void> {
    return Effect.async((resume) => {
      // The fiber may have yielded since it looked.
      if (this.closed || !MutableQueue.isEmpty(this.notices) || this.depth > 0) return resume(Effect.void)
      this.options.onDepth?.(0)
      this.resume = resume
    })
  }

  /** How many requests are in the mailbox, and wait for room in it. */
  private get depth(): number {
    return this.mailbox === undefined ? 0 : Option.getOrElse(this.mailbox.unsafeSize(), () => 0)
  }

  private open(letter: Letter<Message, Stopped> | undefined): Effect.Effect<void> | void {
    if (letter === undefined || letter.withdrawn) return
    if (this.stopped) letter.refuse(Exit.fail(this.options.stopped()))
    else return this.attempt(letter.message, letter.refuse)
  }

  /** A defect in one message must not silence the actor, nor leave a caller without an answer. */
  private attempt(message: Message, refuse?: Reply<never>): Effect.Effect<void> | void {
    try {
      const effect = this.receive(message)
      return effect && Effect.catchAllCause(effect, (cause) => fail(cause, refuse))
    } catch (defect) {
      return fail(Cause.die(defect), refuse)
    }
  }
}

/** A logger may fail as well. */
const fail = (cause: Cause.Cause<never>, refuse: Reply<never> | undefined): Effect.Effect<void> => {
  refuse?.(Exit.failCause(cause))
  return Effect.catchAllCause(Effect.logError("An actor failed", cause), () => Effect.void)
}
