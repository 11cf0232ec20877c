/**
 * Where Redis is and how one gets in: a URL or an object, completed by the environment. Pure but for the files that it reads.
 *
 *   redis://[user[:password]@]host[:port][/database]                  one server; rediss:// with TLS
 *   redis+sentinel://[user[:password]@]host[:port],host[:port]/name   the primary that the sentinels call by this name
 *   redis+cluster://[user[:password]@]host[:port],host[:port]         a Redis Cluster, by some of its nodes
 *
 * Secrets are better kept out of URLs: KEYFOLD_REDIS_USERNAME, KEYFOLD_REDIS_PASSWORD or KEYFOLD_REDIS_PASSWORD_FILE, and
 * KEYFOLD_REDIS_CA_FILE, KEYFOLD_REDIS_CERT_FILE, KEYFOLD_REDIS_KEY_FILE. None of it is ever part of a message.
 */
import { invalidAddress, type Place, placeIn, placeText, unescaped } from "./server-address.ts"
import { checkNames, type Environment, set, type TlsOptions, type TlsSettings, textIn, tlsSettings } from "./server-options.ts"

export interface RedisOptions {
  /** As above; what stands beside it comes before what it says. */
  readonly url?: string
  readonly username?: string
  readonly password?: string
  /** A file that holds the password, such as a mounted secret. */
  readonly passwordFile?: string
  /** Of the sentinels, where they ask for one. */
  readonly sentinelUsername?: string
  readonly sentinelPassword?: string
  readonly sentinelPasswordFile?: string
  readonly tls?: boolean | TlsOptions
}

export interface RedisSettings {
  /** For people. */
  readonly name: string
  readonly kind: "server" | "sentinel" | "cluster"
  readonly places: readonly Place[]
  /** Of the primary, with sentinels. */
  readonly primary: string | undefined
  readonly database: number
  readonly username: string | undefined
  readonly password: string | undefined
  readonly sentinelUsername: string | undefined
  readonly sentinelPassword: string | undefined
  readonly tls: TlsSettings | undefined
}

const optionNames = ["url", "username", "password", "passwordFile", "sentinelUsername", "sentinelPassword", "sentinelPasswordFile", "tls"]
const portDefaults = { server: 6_379, cluster: 6_379, sentinel: 26_379 } as const

/** Throws `option-invalid`. */
export const redisSettings = (redis: string | object, environment: Environment = process.env): RedisSettings => {
  const options: RedisOptions = typeof redis === "string" ? { url: redis } : redis
  checkNames("clustered({ redis })", options, optionNames)
  const address = addressOf(options.url ?? "redis://localhost")
  const { kind, places, primary, database } = address
  const { username = address.username ?? set(environment["KEYFOLD_REDIS_USERNAME"]) } = options
  const password = passwordOf(options, address, environment)
  const sentinelPassword = options.sentinelPassword ?? passwordIn(options.sentinelPasswordFile)
  const { sentinelUsername } = options
  const tls = tlsSettings("Redis", options.tls ?? address.tls, environment)
  return { name: nameOf(address), kind, places, primary, database, username, password, sentinelUsername, sentinelPassword, tls }
}

// ---- the address

interface Address extends Pick<RedisSettings, "kind" | "places" | "primary" | "database"> {
  readonly username: string | undefined
  readonly password: string | undefined
  readonly tls: boolean
}

const addressShape =
  /^redis(?<tls>s?)(?:\+(?<kind>sentinel|cluster))?:\/\/(?:(?<user>[^@/]*)@)?(?<places>[^@/?#]+)(?:\/(?<path>[^@/?#]*))?$/

const addressOf = (url: string): Address => {
  const found = typeof url === "string" ? addressShape.exec(url)?.groups : undefined
  if (found === undefined) throw invalid(`is none of redis://, rediss://, redis+sentinel:// and redis+cluster:// with hosts behind it`)
  const kind = (found["kind"] ?? "server") as RedisSettings["kind"]
  const path = found["path"] || undefined
  const places = (found["places"] as string).split(",").map((place) => placeIn("Redis", place, portDefaults[kind]))
  if (kind === "server" && places.length > 1) throw invalid("names several hosts: redis+cluster:// and redis+sentinel:// take several")
  if (kind === "sentinel" && path === undefined) throw invalid("must end with the name of the primary: redis+sentinel://host:26379/name")
  if (kind === "cluster" && path !== undefined) throw invalid("names a database: a cluster has only one")
  if (kind === "server" && !/^\d*$/.test(path ?? "")) throw invalid("ends with a database that is no number")
  const [username, ...password] = (found["user"] ?? "").split(":")
  return {
    kind,
    places,
    primary: kind === "sentinel" ? path : undefined,
    database: kind === "server" ? Number(path ?? 0) : 0,
    username: unescaped("Redis", username),
    password: unescaped("Redis", password.join(":")),
    tls: found["tls"] === "s"
  }
}

const nameOf = ({ kind, places, primary }: Address): string => {
  const hosts = places.map(placeText).join(", ")
  const names = {
    server: `Redis at ${hosts}`,
    sentinel: `Redis ${primary} of the sentinels at ${hosts}`,
    cluster: `the Redis Cluster at ${hosts}`
  }
  return names[kind]
}

// ---- secrets

const passwordOf = (options: RedisOptions, address: Address, environment: Environment): string | undefined =>
  options.password ??
  passwordIn(options.passwordFile) ??
  address.password ??
  set(environment["KEYFOLD_REDIS_PASSWORD"]) ??
  passwordIn(set(environment["KEYFOLD_REDIS_PASSWORD_FILE"]))

const passwordIn = (path: string | undefined): string | undefined => (path === undefined ? undefined : textIn("Redis", path))

const invalid = (fault: string) => invalidAddress("Redis", fault)
