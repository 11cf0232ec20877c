/** JetStream's own interface, question by question: always the leader's answer (no direct get, which replicas answer as well). */
import type { StreamConfig } from "@nats-io/jetstream"
import { type NatsConnection, PermissionViolationError } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { KeyfoldError, reasonOf } from "../errors.ts"

/** What became of a question that has no answer. */
export type ApiFault =
  /** Nobody answers: an outage, an election, a start. It passes, or not. */
  | { readonly kind: "silent"; readonly reason: string }
  /** The server's permissions do not allow it. */
  | { readonly kind: "refused"; readonly error: KeyfoldError }
  /** The server says no. */
  | { readonly kind: "api"; readonly code: number; readonly errorCode: number; readonly reason: string }

export type ApiRefusal = ApiFault & { readonly kind: "api" }

export interface StreamInfo {
  readonly config: StreamConfig
  /** With nanoseconds; another one when the stream was deleted and created again, the same after a purge. */
  readonly created: string
  readonly state: { readonly first_seq: number; readonly last_seq: number }
  readonly cluster?: { readonly replicas?: readonly unknown[] }
}

export interface StoredMessage {
  readonly position: number
  readonly publishedAt: number
}

const streamNotFound = 10_059
const messageNotFound = 10_037

export const isStreamMissing = (fault: ApiFault): boolean => fault.kind === "api" && fault.errorCode === streamNotFound

/** How long one question may take: a question that is lost in an outage is asked again soon after. */
const askMsMax = 1_000
const retryMsEvery = 100
/** How long an outage may last before a question that waits fails. */
const patienceMs = 5_000

export class JetStreamApi {
  readonly connection: NatsConnection
  readonly #prefix: string
  readonly #asked = new Set<() => void>()

  constructor(connection: NatsConnection, prefix = "$JS.API") {
    this.connection = connection
    this.#prefix = prefix
  }

  /** Where the connection leads, without secrets. */
  get name(): string {
    return `nats://${this.connection.getServer()}`
  }

  /** Fails with `silent` when nobody answers, which says nothing about whether the server has done it. */
  ask<A>(subject: string, body: object = {}, msMax = askMsMax): Effect.Effect<A, ApiFault> {
    return Effect.callback<A, ApiFault>((resume) => {
      const fail = (fault: ApiFault): void => resume(Effect.fail(fault))
      const lose = (): void => fail({ kind: "silent", reason: "the connection was lost" })
      this.#asked.add(lose)
      this.connection
        .request(`${this.#prefix}.${subject}`, JSON.stringify(body), { timeout: msMax })
        .then((message) => {
          const answer = message.json<A & { readonly error?: ErrorAnswer }>()
          if (answer.error === undefined) resume(Effect.succeed(answer))
          else fail(this.#said(answer.error))
        })
        .catch((thrown: unknown) => fail(this.#faultOf(thrown)))
        .finally(() => this.#asked.delete(lose))
    })
  }

  /** The connection was lost, and with it the answers: whoever waits for one need not wait for its time to be over. */
  disconnected(): void {
    for (const lose of [...this.#asked]) lose()
  }

  streamInfo(stream: string): Effect.Effect<StreamInfo, ApiFault> {
    return this.ask<StreamInfo>(`STREAM.INFO.${stream}`)
  }

  /** A message; undefined when it is not there. */
  message(
    stream: string,
    which: { readonly seq: number; readonly next_by_subj?: string } | { readonly last_by_subj: string }
  ): Effect.Effect<StoredMessage | undefined, ApiFault> {
    const asked = this.ask<{ readonly message: { readonly seq: number; readonly time: string } }>(`STREAM.MSG.GET.${stream}`, which)
    const known = Effect.map(asked, ({ message }) => ({ position: message.seq, publishedAt: Date.parse(message.time) }))
    return Effect.catch(known, (fault) =>
      fault.kind === "api" && fault.errorCode === messageNotFound ? Effect.succeed(undefined) : Effect.fail(fault)
    )
  }

  /** The consumer ends with its inactivity when this does not reach the server. */
  deleteConsumer(stream: string, consumer: string): Effect.Effect<void> {
    return this.connection.isClosed() ? Effect.void : Effect.ignore(this.ask(`CONSUMER.DELETE.${stream}.${consumer}`))
  }

  /** Where a consumer's messages are asked for. */
  pullSubject(stream: string, consumer: string): string {
    return `${this.#prefix}.CONSUMER.MSG.NEXT.${stream}.${consumer}`
  }

  /** Asks again while nobody answers, for a bounded time; then fails with `unreachable`. `said`: the server's no as an error. */
  patiently<A>(ask: Effect.Effect<A, ApiFault | KeyfoldError>, said: (fault: ApiRefusal) => KeyfoldError): Effect.Effect<A, KeyfoldError> {
    let reason = "no answer"
    const again: Effect.Effect<A, KeyfoldError> = Effect.catch(ask, (fault) => {
      if (fault instanceof KeyfoldError) return Effect.fail(fault)
      if (fault.kind === "refused") return Effect.fail(fault.error)
      if (fault.kind === "api") return Effect.fail(said(fault))
      reason = fault.reason
      if (this.connection.isClosed()) return Effect.fail(this.unreachable("the connection was closed"))
      return Effect.andThen(Effect.sleep(retryMsEvery), again)
    })
    return Effect.flatMap(
      Effect.timeoutOption(again, patienceMs),
      Option.match({ onNone: () => Effect.fail(this.unreachable(reason)), onSome: (answer) => Effect.succeed(answer) })
    )
  }

  unreachable(reason: string): KeyfoldError {
    return new KeyfoldError("unreachable", `JetStream on ${this.name} cannot be reached (${reason}). Start it, or mend the address`)
  }

  refused(violation: PermissionViolationError): KeyfoldError {
    const what = violation.operation === "subscription" ? "subscribe to" : "publish to"
    return new KeyfoldError(
      "unreachable",
      `${this.name} does not let this user ${what} "${violation.subject}": add the permission to the user's in the server's configuration`
    )
  }

  #faultOf(thrown: unknown): ApiFault {
    const cause = thrown instanceof Error && thrown.cause instanceof Error ? thrown.cause : thrown
    if (cause instanceof PermissionViolationError) return { kind: "refused", error: this.refused(cause) }
    const reason = reasonOf(cause)
    if (!reason.startsWith("no responders")) return { kind: "silent", reason }
    // A server that starts, or a cluster that elects, has no responders for a moment.
    const { info } = this.connection as { readonly info?: { readonly jetstream?: boolean } }
    return { kind: "silent", reason: info?.jetstream === true ? "JetStream does not answer" : notEnabled }
  }

  #said({ code, err_code: errorCode = 0, description = "" }: ErrorAnswer): ApiFault {
    if (errorCode === jetStreamNotEnabled || errorCode === notEnabledForAccount) {
      return {
        kind: "refused",
        error: new KeyfoldError("unreachable", `${this.name}: ${description}. Enable JetStream for the account that keyfold connects with`)
      }
    }
    // 503: no leader, starting, out of memory for now.
    if (code === 503) return { kind: "silent", reason: description }
    return { kind: "api", code, errorCode, reason: description }
  }
}

interface ErrorAnswer {
  readonly code: number
  readonly err_code?: number
  readonly description?: string
}

const jetStreamNotEnabled = 10_076
const notEnabledForAccount = 10_039
const notEnabled = "JetStream is not enabled there: start the server with -js, or a jetstream block in its configuration"
