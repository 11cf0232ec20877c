/** What NATS said, or that it said nothing, as an error of ours. */
import {
  AuthorizationError,
  NoRespondersError,
  PermissionViolationError,
  RequestError,
  TimeoutError,
  UserAuthenticationExpiredError
} from "@nats-io/transport-node"
import { type KeyfoldError, reasonOf } from "../errors.ts"
import { unreachable } from "./server-unreachable.ts"

/** What a request or an attempt to connect ended with, when it is not an answer of JetStream's. */
export const natsFailure = (name: string, thrown: unknown): KeyfoldError => unreachable(name, reasonFor(thrown))

const reasonFor = (thrown: unknown): string => {
  const cause = causeOf(thrown)
  if (cause instanceof PermissionViolationError) return `it refuses us: ${cause.message}. Check the user's rights`
  if (isRefusal(cause)) return `it refuses us: ${cause.message}. Check user, password, token, credentials or nkey`
  if (cause instanceof TimeoutError) return "it does not answer"
  if (cause instanceof NoRespondersError) return "nobody answers: JetStream is not enabled, or has no leader"
  return withCure(reasonOf(cause))
}

/** Somebody has to do something: it does not pass by waiting. */
export const isLasting = (thrown: unknown): boolean => {
  const cause = causeOf(thrown)
  if (isRefusal(cause) || cause instanceof PermissionViolationError) return true
  const reason = reasonOf(cause)
  return isUntrusted(reason) || reason.includes("does not support 'tls'")
}

const isRefusal = (cause: unknown): cause is Error => cause instanceof AuthorizationError || cause instanceof UserAuthenticationExpiredError

/** The client wraps some errors, and the cause says more: which address it was. */
const causeOf = (thrown: unknown): unknown => {
  if (thrown instanceof RequestError && thrown.cause !== undefined) return thrown.cause
  return thrown instanceof Error && (thrown.cause as NodeJS.ErrnoException | undefined)?.code !== undefined ? thrown.cause : thrown
}

const isUntrusted = (reason: string): boolean => /certificate|altnames/.test(reason)

const withCure = (reason: string): string =>
  isUntrusted(reason)
    ? `${reason}. Name the authority to trust in tls.caFile or KEYFOLD_NATS_CA_FILE, and the server by a name that its certificate has`
    : reason
