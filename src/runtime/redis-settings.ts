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
import { readFileSync } from "node:fs"
import { KeyfoldError } from "../errors.ts"

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
  readonly tls?: boolean | RedisTlsOptions
}

export interface RedisTlsOptions {
  /** Certificates of the authorities to trust; the system's by default. */
  readonly caFile?: string
  /** Our own certificate and its key, for a server that asks for one. */
  readonly certFile?: string
  readonly keyFile?: string
  /** The name that the server's certificate must have, where it is not its address. */
  readonly serverName?: string
}

export interface Place {
  readonly host: string
  readonly port: number
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
  readonly tls: { readonly ca?: Buffer; readonly cert?: Buffer; readonly key?: Buffer; readonly servername?: string } | undefined
}

type Environment = Readonly<Record<string, string | undefined>>

const optionNames = ["url", "username", "password", "passwordFile", "sentinelUsername", "sentinelPassword", "sentinelPasswordFile", "tls"]
const tlsNames = ["caFile", "certFile", "keyFile", "serverName"]
const portDefaults = { server: 6_379, cluster: 6_379, sentinel: 26_379 } as const

/** Throws `option-invalid`. */
export const redisSettings = (redis: string | object, environment: Environment = process.env): RedisSettings => {
  const options: RedisOptions = typeof redis === "string" ? { url: redis } : redis
  checkNames("clustered({ redis })", options, optionNames)
  const address = addressOf(options.url ?? "redis://localhost")
  const { kind, places, primary, database } = address
  const { username = address.username ?? set(environment["KEYFOLD_REDIS_USERNAME"]) } = options
  const password = passwordOf(options, address, environment)
  const sentinelPassword = options.sentinelPassword ?? textIn(options.sentinelPasswordFile)
  const { sentinelUsername } = options
  const tls = tlsOf(options.tls ?? address.tls, environment)
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
  const places = (found["places"] as string).split(",").map((place) => placeOf(place, portDefaults[kind]))
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
    username: unescaped(username),
    password: unescaped(password.join(":")),
    tls: found["tls"] === "s"
  }
}

/** "host", "host:1" or "[::1]:1". */
const placeOf = (text: string, portDefault: number): Place => {
  const found = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text)
  const port = Number(found?.[3] ?? portDefault)
  const host = found?.[1] ?? found?.[2]
  if (host === undefined || port > 65_535) throw invalid("has a host that is none; a host looks like redis.example.com:6379")
  return { host, port }
}

const unescaped = (text: string | undefined): string | undefined => {
  try {
    return text ? decodeURIComponent(text) : undefined
  } catch {
    throw invalid("has a user or password with a % that escapes nothing: write it as %25")
  }
}

const nameOf = ({ kind, places, primary }: Address): string => {
  const hosts = places.map(({ host, port }) => (host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`)).join(", ")
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
  textIn(options.passwordFile) ??
  address.password ??
  set(environment["KEYFOLD_REDIS_PASSWORD"]) ??
  textIn(set(environment["KEYFOLD_REDIS_PASSWORD_FILE"]))

const tlsOf = (tls: boolean | RedisTlsOptions, environment: Environment): RedisSettings["tls"] => {
  if (tls === false) return undefined
  const own = tls === true ? {} : tls
  checkNames("clustered({ redis: { tls } })", own, tlsNames)
  const ca = bytesIn(own.caFile ?? set(environment["KEYFOLD_REDIS_CA_FILE"]))
  const cert = bytesIn(own.certFile ?? set(environment["KEYFOLD_REDIS_CERT_FILE"]))
  const key = bytesIn(own.keyFile ?? set(environment["KEYFOLD_REDIS_KEY_FILE"]))
  const { serverName } = own
  return { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }), ...(serverName && { servername: serverName }) }
}

const textIn = (path: string | undefined): string | undefined =>
  bytesIn(path)
    ?.toString("utf8")
    .replace(/\r?\n$/, "")

const bytesIn = (path: string | undefined): Buffer | undefined => {
  if (path === undefined) return undefined
  try {
    return readFileSync(path)
  } catch (thrown) {
    const code = (thrown as NodeJS.ErrnoException).code ?? "unknown"
    throw new KeyfoldError("option-invalid", `the file ${path}, which the settings of Redis name, cannot be read (${code})`)
  }
}

/** An empty variable is none. */
const set = (value: string | undefined): string | undefined => value || undefined

const checkNames = (what: string, options: object, names: readonly string[]): void => {
  const unknown = Object.keys(options).filter((name) => !names.includes(name))
  if (unknown.length === 0) return
  throw new KeyfoldError("option-invalid", `${what} has no option ${unknown.join(", ")}: the options are ${names.join(", ")}`)
}

/** Without the address itself: it may hold a password. */
const invalid = (fault: string): KeyfoldError => new KeyfoldError("option-invalid", `the address of Redis ${fault}`)
