/** The connection to NATS that the JetStream adapters share. */
import { checkServerIdentity, type PeerCertificate } from "node:tls"
import { connect, type NatsConnection, type NodeConnectionOptions, TimeoutError } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { KeyfoldError } from "../errors.ts"
import { isLasting, natsFailure } from "./nats-failures.ts"
import type { NatsSettings } from "./nats-settings.ts"
import { abandon, dropWhenStale } from "./nats-sockets.ts"
import { placeText } from "./server-address.ts"
import { unreachable } from "./server-unreachable.ts"

export interface NatsLink {
  /** For people. */
  readonly name: string
  readonly connection: NatsConnection
  /** "2.15.1": of the server that we are connected to, or were last. */
  readonly version: () => string
  /** Whether it is one of several. */
  readonly isClustered: boolean
  /** Why nothing comes or goes at present; undefined while it is connected. */
  readonly trouble: () => KeyfoldError | undefined
}

/** A server that is just being started is waited for so long. */
const connectMsMax = 5_000
const retryMs = 100
const dialMsMax = 2_000
const answerMsMax = 1_000

/** What every connection has. */
const fixedOptions = {
  name: "keyfold",
  noAsyncTraces: true,
  timeout: dialMsMax,
  // A connection whose other end has vanished without a word is noticed by a third ping that finds two unanswered: after 2 to 3 s.
  pingInterval: 1_000,
  maxPingOut: 2,
  maxReconnectAttempts: -1,
  reconnectTimeWait: 200,
  reconnectJitter: 300,
  reconnectJitterTLS: 300,
  // Left alone the client closes for ever after a second refusal. Secrets are renewed, here and there, and not at the same moment.
  ignoreAuthErrorAbort: true
} as const satisfies NodeConnectionOptions

/**
 * Connected when it completes, with JetStream at hand; from then on it reconnects by itself, until the scope closes it. Fails with
 * `unreachable`, saying why.
 */
export const connectNats = Effect.fnUntraced(function* (settings: NatsSettings): Effect.fn.Return<NatsLink, KeyfoldError, Scope.Scope> {
  const { name } = settings
  let fault: unknown = new Error("it does not answer")
  const note = (thrown: unknown): void => {
    fault = thrown
  }
  const opened = Effect.acquireRelease(
    untilDone(() => dial(settings), note),
    (open) => Effect.promise(() => abandon(open)),
    { interruptible: true }
  )
  const ready = Effect.tap(opened, (connection) => untilDone(() => findJetStream(connection), note))
  const connection = yield* Effect.mapError(
    Effect.timeoutOrElse(ready, { duration: connectMsMax, orElse: () => Effect.fail(fault) }),
    (thrown) => failureOf(settings, thrown)
  )
  let isAway = false
  void dropWhenStale(connection, (says) => {
    isAway = says
  })
  let { info } = connection
  return {
    name,
    connection,
    version: () => {
      info = connection.info ?? info
      return info?.version ?? ""
    },
    isClustered: info?.cluster !== undefined,
    trouble: () => (isAway ? unreachable(name, "the connection was lost") : undefined)
  }
})

const failureOf = ({ name, tls }: NatsSettings, thrown: unknown): KeyfoldError => {
  if (thrown instanceof NoJetStreamError) return unreachable(name, thrown.message)
  // The client keeps it to itself when a server that asks for a certificate hangs up.
  const lacksCertificate = tls !== undefined && tls.cert === undefined && thrown instanceof TimeoutError
  return lacksCertificate
    ? unreachable(name, "it does not answer, or wants a certificate of ours: tls.certFile, tls.keyFile")
    : natsFailure(name, thrown)
}

/** Again and again, but for what does not pass by waiting; each fault is noted, for whoever stops it. */
const untilDone = <A>(attempt: () => Effect.Effect<A, unknown>, note: (thrown: unknown) => void): Effect.Effect<A, unknown> =>
  Effect.catch(Effect.suspend(attempt), (thrown) => {
    note(thrown)
    if (isLasting(thrown) || thrown instanceof NoJetStreamError) return Effect.fail(thrown)
    return Effect.andThen(Effect.sleep(retryMs), untilDone(attempt, note))
  })

/** One round over all servers. */
const dial = ({ places, authenticator, tls, inboxPrefix }: NatsSettings): Effect.Effect<NatsConnection, unknown> =>
  Effect.callback<NatsConnection, unknown>((resume) => {
    let isWanted = true
    connect({
      ...fixedOptions,
      servers: places.map(placeText),
      inboxPrefix,
      ...(authenticator !== undefined && { authenticator }),
      ...(tls !== undefined && {
        tls: { ...tls, checkServerIdentity: checkDialed } as unknown as NonNullable<NodeConnectionOptions["tls"]>
      })
    }).then(
      (connection) => (isWanted ? resume(Effect.succeed(connection)) : void abandon(connection)),
      (thrown) => resume(Effect.fail(thrown))
    )
    return Effect.sync(() => {
      isWanted = false
    })
  })

/**
 * The client names no server to TLS when it was given an address without a name, and Node then takes any server for `localhost`. So the
 * certificate of such a server must have the very address that was dialed.
 */
function checkDialed(this: TlsDialing | undefined, host: string, certificate: PeerCertificate): Error | undefined {
  return checkServerIdentity(this?.servername || (this?.socket?.remoteAddress ?? host), certificate)
}

interface TlsDialing {
  readonly servername?: string
  readonly socket?: { readonly remoteAddress?: string }
}

class NoJetStreamError extends Error {}

const findJetStream = (connection: NatsConnection): Effect.Effect<void, unknown> =>
  Effect.tryPromise({
    try: async () => {
      if (connection.info?.jetstream !== true && connection.info?.cluster === undefined) {
        throw new NoJetStreamError("JetStream is not enabled: give the server a jetstream block, or start it with -js")
      }
      const answer = await connection.request("$JS.API.INFO", "", { timeout: answerMsMax })
      const { error } = answer.json<{ readonly error?: { readonly err_code?: number; readonly description?: string } }>()
      if (error?.err_code === jetStreamNotEnabledForAccount) {
        throw new NoJetStreamError("JetStream is not enabled for this user's account")
      }
      if (error !== undefined) throw new Error(error.description ?? "JetStream is not ready")
    },
    catch: (thrown) => thrown
  })

const jetStreamNotEnabledForAccount = 10_039
