/**
 * Where NATS is and how one gets in: addresses or an object, completed by the environment. Pure but for the files that it reads.
 *
 *   nats://[user:password@]host[:port][,host[:port]]   some of the servers of a cluster; tls:// instead insists on TLS
 *   nats://token@host                                  with a token; where there is a password beside it, the user of that name
 *
 * Secrets are better kept out of addresses: KEYFOLD_NATS_USER with KEYFOLD_NATS_PASSWORD or KEYFOLD_NATS_PASSWORD_FILE,
 * KEYFOLD_NATS_TOKEN or KEYFOLD_NATS_TOKEN_FILE, KEYFOLD_NATS_CREDS_FILE, KEYFOLD_NATS_NKEY_SEED_FILE; and KEYFOLD_NATS_CA_FILE,
 * KEYFOLD_NATS_CERT_FILE, KEYFOLD_NATS_KEY_FILE. Options come before the address, the address before the environment. None of it is ever
 * part of a message.
 */
import type { Authenticator } from "@nats-io/transport-node"
import { KeyfoldError } from "../errors.ts"
import { authenticatorOf, credentialNames, type NatsCredentials } from "./nats-credentials.ts"
import { invalidAddress, type Place, placeIn, placeText, unescaped } from "./server-address.ts"
import { checkNames, type Environment, set, type TlsOptions, type TlsSettings, tlsSettings } from "./server-options.ts"

export interface NatsOptions extends NatsCredentials {
  /** As above, or several of them; what stands beside it comes before what it says. */
  readonly servers?: string | readonly string[]
  readonly tls?: boolean | TlsOptions
  /** Below this subject answers come in, so that a user may be restricted to it. Default "_INBOX.keyfold". */
  readonly inboxPrefix?: string
  /** That the servers run with `sync_interval: always`, which no server tells its clients. Default false. */
  readonly syncsAlways?: boolean
}

export interface NatsSettings {
  /** For people. */
  readonly name: string
  readonly places: readonly Place[]
  readonly authenticator: Authenticator | undefined
  readonly tls: TlsSettings | undefined
  readonly inboxPrefix: string
  readonly syncsAlways: boolean
}

const optionNames = ["servers", ...credentialNames, "tls", "inboxPrefix", "syncsAlways"]
const portDefault = 4_222
const inboxPrefixDefault = "_INBOX.keyfold"

/** Throws `option-invalid`. */
export const natsSettings = (nats: string | object, environment: Environment = process.env): NatsSettings => {
  const options: NatsOptions = typeof nats === "string" ? { servers: nats } : nats
  checkNames("clustered({ nats })", options, optionNames)
  const { inboxPrefix = inboxPrefixDefault, syncsAlways = false } = options
  checkInboxPrefix(inboxPrefix)
  const addresses = [options.servers ?? "nats://localhost"].flat().flatMap(addressesIn)
  if (addresses.length === 0) throw invalid("names no server")
  const places = addresses.map(({ place }) => place)
  const fromEnvironment = credentialsIn(environment)
  const fromAddress = addresses.find(({ user }) => user !== undefined)
  const sources = [options, credentialsOf(fromAddress, [options, fromEnvironment]), fromEnvironment]
  return {
    name: `NATS at ${places.map(placeText).join(", ")}`,
    places,
    authenticator: authenticatorOf(sources),
    tls: tlsSettings("NATS", options.tls ?? addresses.some(({ tls }) => tls), environment),
    inboxPrefix,
    syncsAlways
  }
}

const checkInboxPrefix = (prefix: string): void => {
  if (/^[\w-]+(\.[\w-]+)*$/.test(prefix)) return
  throw new KeyfoldError(
    "option-invalid",
    "clustered({ nats: { inboxPrefix } }) must be a subject without wildcards, such as _INBOX.keyfold"
  )
}

// ---- the address

interface Address {
  readonly place: Place
  readonly tls: boolean
  /** Or a token, when there is no password. */
  readonly user: string | undefined
  readonly password: string | undefined
}

const addressShape = /^(?:(?<scheme>nats|tls):\/\/)?(?:(?<user>[^@/]*)@)?(?<place>[^@/?#]+)\/?$/

/** "nats://a,b", and "nats://a,nats://b" as well. */
const addressesIn = (servers: unknown): readonly Address[] => {
  if (typeof servers !== "string" || !/^(nats|tls):\/\//.test(servers)) throw invalid("is none of nats:// and tls:// with hosts behind it")
  return servers.split(",").map(addressOf)
}

const addressOf = (text: string, index: number, all: readonly string[]): Address => {
  const found = addressShape.exec(text)?.groups
  if (found === undefined) throw invalid("is none of nats:// and tls:// with hosts behind it")
  const [user, ...password] = (found["user"] ?? "").split(":")
  return {
    place: placeIn("NATS", found["place"] as string, portDefault),
    tls: found["scheme"] === "tls" || (index > 0 && (all[0] as string).startsWith("tls:")),
    user: unescaped("NATS", user),
    password: password.length === 0 ? undefined : (unescaped("NATS", password.join(":")) ?? "")
  }
}

// ---- credentials

/** A name alone is a user when somebody has its password, else a token. */
const credentialsOf = (address: Address | undefined, others: readonly NatsCredentials[]): NatsCredentials => {
  if (address === undefined) return {}
  const { user, password } = address
  const isUser = password !== undefined || others.some((other) => other.password !== undefined || other.passwordFile !== undefined)
  return isUser ? { user, password } : { token: user }
}

const credentialsIn = (environment: Environment): NatsCredentials => ({
  user: set(environment["KEYFOLD_NATS_USER"]),
  password: set(environment["KEYFOLD_NATS_PASSWORD"]),
  passwordFile: set(environment["KEYFOLD_NATS_PASSWORD_FILE"]),
  token: set(environment["KEYFOLD_NATS_TOKEN"]),
  tokenFile: set(environment["KEYFOLD_NATS_TOKEN_FILE"]),
  credsFile: set(environment["KEYFOLD_NATS_CREDS_FILE"]),
  nkeySeedFile: set(environment["KEYFOLD_NATS_NKEY_SEED_FILE"])
})

const invalid = (fault: string): KeyfoldError => invalidAddress("NATS", fault)
