/**
 * Finds the servers that tests run, or provides them. In this order, for each kind:
 *
 *   KEYFOLD_TEST_NATS, KEYFOLD_TEST_REDIS      addresses of running servers, used as they are
 *   KEYFOLD_NATS_SERVER, KEYFOLD_REDIS_SERVER  paths of binaries, separated by colons: these and no others
 *   nats-server, redis-server                  on PATH or in /usr/sbin
 *   Debian's packages                          unpacked into node_modules/.cache, once per clone (debian.ts)
 *   docker compose                             the servers of docker-compose.yml, when nothing else is there
 */
import { existsSync } from "node:fs"
import { join, resolve } from "node:path"
import { versionOf } from "./binary.ts"
import { startComposed } from "./composed.ts"
import { cachedServer, debianServers, unpackSuite } from "./debian.ts"
import { compareVersions, rememberServers, type ServerKind, type ServersFound, type ServerVersion } from "./versions.ts"

export interface Places {
  /** Where Debian's packages are unpacked. */
  readonly cache: string
  /** Where servers are looked for besides PATH. */
  readonly folders: readonly string[]
}

const repository = resolve(import.meta.dirname, "../..")
const defaultPlaces: Places = { cache: join(repository, "node_modules/.cache/keyfold-servers"), folders: ["/usr/sbin", "/usr/local/sbin"] }

const kinds: readonly ServerKind[] = ["nats", "redis"]

/** Looks for both kinds; workers and children find the answer in the environment. Fails when there is no NATS or no Redis at all. */
export const provision = async (places: Partial<Places> = {}): Promise<ServersFound> => {
  const { cache, folders } = { ...defaultPlaces, ...places }
  await unpackMissing(
    kinds.filter((kind) => nameOf(kind, "TEST") === undefined && nameOf(kind, "SERVER") === undefined),
    cache
  )
  const [nats, redis] = await Promise.all([binariesOf("nats", cache, folders), binariesOf("redis", cache, folders)])
  const natsUrl = nameOf("nats", "TEST") ?? (nats.length > 0 ? undefined : await startComposed("nats", say))
  const redisUrl = nameOf("redis", "TEST") ?? (redis.length > 0 ? undefined : await startComposed("redis", say))
  if (nats.length === 0 && natsUrl === undefined) throw new Error(absence("nats"))
  if (redis.length === 0 && redisUrl === undefined) throw new Error(absence("redis"))
  const found = { nats, redis, natsUrl, redisUrl }
  rememberServers(found)
  return found
}

/** "servers: nats-server 2.9.10, 2.15.1; redis-server 7.0.15". */
export const lineOf = ({ nats, redis, natsUrl, redisUrl }: ServersFound): string => {
  const part = (name: string, versions: readonly ServerVersion[], url: string | undefined): string =>
    `${name} ${[...(url === undefined ? [] : ["that is running"]), ...versions.map((one) => one.version)].join(", ")}`
  return `servers: ${part("nats-server", nats, natsUrl)}; ${part("redis-server", redis, redisUrl)}`
}

const say = (line: string): void => {
  process.stderr.write(`servers: ${line}\n`)
}

const absence = (kind: ServerKind): string =>
  `the tests need a ${kind}-server and found none: install it (Debian: apt-get install ${kind}-server), or name a binary in ` +
  `KEYFOLD_${kind.toUpperCase()}_SERVER, or the address of one that is running in KEYFOLD_TEST_${kind.toUpperCase()}`

/** KEYFOLD_TEST_NATS or KEYFOLD_NATS_SERVER; an empty one is none. */
const nameOf = (kind: ServerKind, what: "TEST" | "SERVER"): string | undefined => {
  const name = what === "TEST" ? `KEYFOLD_TEST_${kind.toUpperCase()}` : `KEYFOLD_${kind.toUpperCase()}_SERVER`
  return process.env[name] || undefined
}

const binariesOf = async (kind: ServerKind, cache: string, folders: readonly string[]): Promise<readonly ServerVersion[]> => {
  const named = nameOf(kind, "SERVER")
  if (named !== undefined) return inOrder(await Promise.all(named.split(":").map(namedBinary)))
  return inOrder([...(await onPath(kind, folders)), ...debianServers(kind).flatMap((server) => cachedServer(cache, server) ?? [])])
}

/** Oldest first, one of each minor version: the first that was found. */
const inOrder = (found: readonly ServerVersion[]): readonly ServerVersion[] => {
  const minorOf = ({ version }: ServerVersion): string => version.split(".", 2).join(".")
  const firsts = found.filter((one, index) => found.findIndex((other) => minorOf(other) === minorOf(one)) === index)
  return firsts.toSorted((a, b) => compareVersions(a.version, b.version))
}

const namedBinary = async (program: string): Promise<ServerVersion> => {
  const version = await versionOf(program, [])
  if (version === undefined) throw new Error(`${program}, which the environment names, is no server that runs here`)
  return { version, program, args: [] }
}

const onPath = async (kind: ServerKind, folders: readonly string[]): Promise<readonly ServerVersion[]> => {
  const all = [...(process.env["PATH"] ?? "").split(":"), ...folders]
  const program = all.map((folder) => join(folder, `${kind}-server`)).find((path) => existsSync(path))
  const version = program === undefined ? undefined : await versionOf(program, [])
  return program === undefined || version === undefined ? [] : [{ version, program, args: [] }]
}

/** Debian's servers that the cache lacks. What cannot be had is said; it is no failure as long as there is one of each kind. */
const unpackMissing = async (of: readonly ServerKind[], cache: string): Promise<void> => {
  const missing = of.flatMap(debianServers).filter((server) => cachedServer(cache, server) === undefined)
  await Promise.all(
    [...Map.groupBy(missing, (server) => server.suite)].map(async ([suite, servers]) => {
      const faults = await unpackSuite(
        cache,
        suite,
        servers.map((server) => server.kind)
      )
      for (const [kind, fault] of faults) say(`not available: ${kind}-server of Debian ${suite}: ${fault}`)
    })
  )
}
