/**
 * Messages out and their answers in, over one reply inbox: what the client's `request` does for one message at a time and at several
 * times the cost. Owns who waits for which answer, and whether we are connected; what an answer means is decided elsewhere.
 *
 * Every message ends: with its answer, with silence after the time allowed, or with the connection. One that was given up may still
 * arrive at the server later: P12's expected sequence and the message ids make that harmless.
 */
import { createInbox, type Msg, type MsgHdrs, type NatsConnection, PermissionViolationError, type Status } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { asKeyfoldError, KeyfoldError } from "../errors.ts"
import { connectionClosed, denied, disconnected, type Hitch, notSent, silence } from "./jetstream-answers.ts"

/** Who waits for an answer. Called on the hot path, once per message: plain calls. */
export interface Awaiting {
  readonly answered: (message: Msg, token: number) => void
  readonly unanswered: (hitch: Hitch, token: number) => void
}

export interface LinkOptions {
  /** How long a message may go without an answer. */
  readonly ackMsMax: number
  /** What inboxes begin with, for users whose rights are narrow. */
  readonly inboxPrefix: string | undefined
}

interface Pending {
  readonly awaiting: Awaiting
  readonly subject: string
  readonly tick: number
}

const ticksMax = 8

export class JetStreamLink {
  readonly #connection: NatsConnection
  readonly #inbox: string
  /** In the order of sending, so the oldest come first. */
  readonly #pending = new Map<number, Pending>()
  readonly #waiting = new Set<() => void>()
  /** The reply subject cannot be read: nothing will ever be answered. */
  #inboxDenied: Hitch | undefined
  #token = 0
  #tick = 0
  #isUp: boolean
  #isClustered = false

  constructor(connection: NatsConnection, inboxPrefix: string | undefined) {
    this.#connection = connection
    this.#isUp = connection.info !== undefined
    this.#inbox = `${createInbox(inboxPrefix)}.`
  }

  /** Random, and this link's alone. */
  get name(): string {
    return this.#inbox.slice(0, -1).split(".").at(-1) as string
  }

  /** Whether there are several servers: a message, or a question, may go to a leader that is none any more. */
  get isClustered(): boolean {
    this.#isClustered ||= this.#connection.info?.cluster !== undefined
    return this.#isClustered
  }

  get isUp(): boolean {
    return this.#isUp
  }

  /** Sends a message; `awaiting` hears of it exactly once, later. Throws `encode-failed` for one that is too large. */
  send(subject: string, payload: Uint8Array, headers: MsgHdrs | undefined, awaiting: Awaiting): number {
    const token = ++this.#token
    if (this.#canSend) {
      const reply = this.#inbox + token.toString(36)
      try {
        this.#connection.publish(subject, payload, headers === undefined ? { reply } : { reply, headers })
      } catch (thrown) {
        if (!this.#connection.isClosed())
          throw asKeyfoldError(thrown, "encode-failed", `NATS takes no message of ${payload.byteLength} bytes for ${subject}`)
      }
      this.#pending.set(token, { awaiting, subject, tick: this.#tick })
    } else {
      this.#pending.set(token, { awaiting, subject, tick: this.#tick })
      queueMicrotask(() => this.#giveUp(token, this.#connection.isClosed() ? connectionClosed : (this.#inboxDenied ?? notSent)))
    }
    return token
  }

  /** Nobody waits for this one any more. */
  forget(token: number): void {
    this.#pending.delete(token)
  }

  /** Sends one message and waits for its answer. */
  ask(subject: string, payload: Uint8Array, headers?: MsgHdrs): Effect.Effect<Msg | Hitch> {
    return Effect.callback((resume) => {
      const token = this.send(subject, payload, headers, {
        answered: (message) => resume(Effect.succeed(message)),
        unanswered: (hitch) => resume(Effect.succeed(hitch))
      })
      return Effect.sync(() => this.forget(token))
    })
  }

  /** Completes when we are connected, or never will be again: then sending says so. */
  get up(): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const look = () => {
        if (!this.#isUp && !this.#connection.isClosed()) return
        this.#waiting.delete(look)
        resume(Effect.void)
      }
      this.#waiting.add(look)
      look()
      return Effect.sync(() => void this.#waiting.delete(look))
    })
  }

  // ---- inside

  /** Runs until the scope closes. */
  readonly keep = Effect.fnUntraced(function* (this: JetStreamLink, ackMsMax: number) {
    const connection = this.#connection
    const hear = (failure: Error | null, message: Msg) => {
      if (failure === null) this.#answered(message)
      else if (failure instanceof PermissionViolationError) this.#denyInbox(failure)
    }
    const listen = Effect.try({
      try: () => connection.subscribe(`${this.#inbox}*`, { callback: hear }),
      catch: (thrown) => new KeyfoldError("unreachable", `the connection to NATS is closed (${String(thrown)}): connect again`)
    })
    yield* Effect.acquireRelease(listen, (subscription) => Effect.sync(() => void (connection.isClosed() || subscription.unsubscribe())))
    const statuses = connection.status()[Symbol.asyncIterator]()
    yield* Effect.forkScoped(Effect.promise(() => this.#follow(statuses)))
    yield* Effect.addFinalizer(() => Effect.sync(() => void statuses.return?.()))
    yield* Effect.addFinalizer(() => Effect.sync(() => this.#giveUpAll(connectionClosed)))
    const tick = Effect.sync(() => this.#giveUpOld())
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(ackMsMax / ticksMax), tick)))
  }) satisfies (this: JetStreamLink, ackMsMax: number) => Effect.Effect<void, KeyfoldError, Scope.Scope>

  /**
   * The client has no `info` while it connects anew, and drops what it is given then or sends it later: after others that it has dropped.
   * That we hear of a lost connection takes a moment.
   */
  get #canSend(): boolean {
    return this.#isUp && this.#inboxDenied === undefined && this.#connection.info !== undefined
  }

  #answered(message: Msg): void {
    const token = Number.parseInt(message.subject.slice(this.#inbox.length), 36)
    const pending = this.#pending.get(token)
    if (pending === undefined) return
    this.#pending.delete(token)
    pending.awaiting.answered(message, token)
  }

  #giveUp(token: number, hitch: Hitch): void {
    const pending = this.#pending.get(token)
    if (pending === undefined) return
    this.#pending.delete(token)
    pending.awaiting.unanswered(hitch, token)
  }

  #giveUpAll(hitch: Hitch, concerns: (pending: Pending) => boolean = () => true): void {
    for (const [token, pending] of [...this.#pending]) if (concerns(pending)) this.#giveUp(token, hitch)
  }

  /** A message waits from one to two ticks longer than it must. */
  #giveUpOld(): void {
    this.#tick += 1
    const old: number[] = []
    for (const [token, { tick }] of this.#pending) {
      if (this.#tick - tick <= ticksMax) break
      old.push(token)
    }
    for (const token of old) this.#giveUp(token, silence)
  }

  async #follow(statuses: AsyncIterator<Status>): Promise<void> {
    for (;;) {
      const { done, value } = await statuses.next()
      if (done) break
      this.#hear(value)
    }
    if (this.#connection.isClosed()) this.#over()
  }

  #hear(status: Status): void {
    if (status.type === "disconnect") {
      this.#isUp = false
      this.#giveUpAll(disconnected) // answers to what was sent go to a connection that is no more
    } else if (status.type === "reconnect") {
      this.#isUp = true
      this.#inboxDenied = undefined // with other rights, maybe
      this.#wake()
    } else if (status.type === "close") this.#over()
    else if (status.type === "error" && status.error instanceof PermissionViolationError) {
      const { operation, subject } = status.error
      const hitch = denied(`the user may not publish to ${subject}`)
      if (operation === "publish") this.#giveUpAll(hitch, (pending) => pending.subject === subject)
    }
  }

  #denyInbox({ subject }: PermissionViolationError): void {
    this.#inboxDenied = denied(`the user may not subscribe to ${subject}, where answers arrive`)
    this.#giveUpAll(this.#inboxDenied)
  }

  #over(): void {
    this.#isUp = false
    this.#giveUpAll(connectionClosed)
    this.#wake()
  }

  #wake(): void {
    for (const look of [...this.#waiting]) look()
  }
}

/** A link that works until the scope closes. */
export const openLink = Effect.fnUntraced(function* (
  connection: NatsConnection,
  options: LinkOptions
): Effect.fn.Return<JetStreamLink, KeyfoldError, Scope.Scope> {
  const link = new JetStreamLink(connection, options.inboxPrefix)
  yield* link.keep(options.ackMsMax)
  return link
})
