/**
 * Who we are to NATS: a user with a password, a token, a credentials file (a JWT and the seed of its nkey), or an nkey. Files are read when
 * the settings are made, and again at each connection, because secrets are renewed while a worker runs. Nothing here is ever part of a message.
 */
import {
  type Authenticator,
  credsAuthenticator,
  nkeyAuthenticator,
  tokenAuthenticator,
  usernamePasswordAuthenticator
} from "@nats-io/transport-node"
import { KeyfoldError } from "../errors.ts"
import { textIn } from "./server-options.ts"

/** At most one way in; a user needs a password. */
export interface NatsCredentials {
  readonly user?: string | undefined
  readonly password?: string | undefined
  /** A file that holds the password, such as a mounted secret. */
  readonly passwordFile?: string | undefined
  readonly token?: string | undefined
  readonly tokenFile?: string | undefined
  /** As nsc writes them: a JWT and a seed. */
  readonly credsFile?: string | undefined
  readonly nkeySeedFile?: string | undefined
}

/** The names that they have among the options. */
export const credentialNames = ["user", "password", "passwordFile", "token", "tokenFile", "credsFile", "nkeySeedFile"] as const

/**
 * Of several sources the first that names a way in counts; a user and its password may come from two. Undefined: nobody in particular.
 * Throws `option-invalid`; what it answers never throws, since the client would give up for ever.
 */
export const authenticatorOf = (sources: readonly NatsCredentials[]): Authenticator | undefined => {
  const source = sources.find((one) => waysIn(one).length > 0)
  const [way, ...others] = source === undefined ? [] : waysIn(source)
  if (source === undefined || way === undefined) return undefined
  if (others.length > 0) throw invalid(`name several ways in (${[way, ...others].join(", ")}): give one of them`)
  if (way === "credentials") return creds(source.credsFile as string)
  if (way === "nkey") return nkey(source.nkeySeedFile as string)
  if (way === "token") return tokenAuthenticator(secretOf(source.token, source.tokenFile) as Secret)
  return userOf(sources)
}

type Secret = () => string

const waysIn = ({ user, password, passwordFile, token, tokenFile, credsFile, nkeySeedFile }: NatsCredentials): readonly string[] => [
  ...(user === undefined && password === undefined && passwordFile === undefined ? [] : ["password"]),
  ...(token === undefined && tokenFile === undefined ? [] : ["token"]),
  ...(credsFile === undefined ? [] : ["credentials"]),
  ...(nkeySeedFile === undefined ? [] : ["nkey"])
]

const userOf = (sources: readonly NatsCredentials[]): Authenticator => {
  const user = sources.find((source) => source.user !== undefined)?.user
  const holder = sources.find((source) => source.password !== undefined || source.passwordFile !== undefined)
  if (user === undefined) throw invalid("have a password but no user")
  if (holder === undefined) throw invalid("have a user but no password")
  return usernamePasswordAuthenticator(user, secretOf(holder.password, holder.passwordFile) as Secret)
}

const secretOf = (text: string | undefined, file: string | undefined): Secret | undefined => {
  if (text !== undefined) return () => text
  return file === undefined ? undefined : fresh(file, () => true)
}

const creds = (file: string): Authenticator => {
  // The client finds a part only when a line feed, and no carriage return, ends its last line.
  const authenticatorWith = (text: string): Authenticator => credsAuthenticator(Buffer.from(`${text.replaceAll("\r\n", "\n")}\n`))
  const text = fresh(file, (read) => proves(authenticatorWith(read)), "credentials: a JWT and the seed of an nkey")
  return (nonce) => authenticatorWith(text())(nonce)
}

const nkey = (file: string): Authenticator => {
  const authenticatorWith = (text: string): Authenticator => nkeyAuthenticator(Buffer.from(text.trim()))
  const text = fresh(file, (read) => proves(authenticatorWith(read)), "seed of an nkey")
  return (nonce) => authenticatorWith(text())(nonce)
}

const proves = (authenticator: Authenticator): boolean => {
  try {
    authenticator("a nonce")
    return true
  } catch {
    return false
  }
}

/** What a file holds now; what it held last, while it is being replaced. */
const fresh = (path: string, isGood: (text: string) => boolean, what = "secret"): Secret => {
  let last = textIn("NATS", path)
  if (!isGood(last)) throw new KeyfoldError("option-invalid", `the file ${path}, which the settings of NATS name, holds no ${what}`)
  return () => {
    try {
      const text = textIn("NATS", path)
      if (isGood(text)) last = text
    } catch {
      // It is gone, or not there yet.
    }
    return last
  }
}

const invalid = (fault: string): KeyfoldError => new KeyfoldError("option-invalid", `the settings of NATS ${fault}`)
