/**
 * The servers that tests may run, as provision.ts left them in the environment: so that every worker and every child process knows them,
 * and nobody looks for them or downloads them twice.
 */

export type ServerKind = "nats" | "redis"

/** A binary that can be started. */
export interface ServerVersion {
  /** "2.9.10". */
  readonly version: string
  readonly program: string
  /** What stands before the server's own arguments: a loader and its libraries, when the system's are too old for it. */
  readonly args: readonly string[]
}

export interface ServersFound {
  readonly nats: readonly ServerVersion[]
  readonly redis: readonly ServerVersion[]
  /** Addresses of servers that somebody else runs (KEYFOLD_TEST_NATS, KEYFOLD_TEST_REDIS, docker compose): used as they are. */
  readonly natsUrl?: string | undefined
  readonly redisUrl?: string | undefined
}

const variable = "KEYFOLD_SERVERS_FOUND"

export const rememberServers = (found: ServersFound): void => {
  process.env[variable] = JSON.stringify(found)
}

export const serversFound = (): ServersFound => {
  const text = process.env[variable]
  if (text === undefined)
    throw new Error("no servers were looked for: call provision() of test/servers/provision.ts first (vitest's global setup does)")
  return JSON.parse(text)
}

/** The name of a server that somebody else runs, where a version is asked for. */
export const running = "running"

/**
 * What law suites and live tests run on, oldest first: `startNats({ version })` starts each. All of them with KEYFOLD_TEST=full, else the
 * oldest and the newest: most differences show between these two. A server that is running already stands for all.
 */
export const natsVersions = (): readonly string[] => versionsOf("nats")

export const redisVersions = (): readonly string[] => versionsOf("redis")

/** For tests that take long: the oldest alone, where most differences show; with KEYFOLD_TEST=full all of them. */
export const natsVersionsForLong = (): readonly string[] => forLong(natsVersions())

export const redisVersionsForLong = (): readonly string[] => forLong(redisVersions())

const forLong = (all: readonly string[]): readonly string[] => (process.env["KEYFOLD_TEST"] === "full" ? all : all.slice(0, 1))

/** False when tests can only use a server that somebody else runs: those that kill it cannot run then. */
export const canStart = (kind: ServerKind): boolean => serversFound()[kind].length > 0

export const addressOf = (kind: ServerKind): string | undefined => serversFound()[kind === "nats" ? "natsUrl" : "redisUrl"]

/** The binary of a version ("2.15.1", or a beginning of it: "2.15"); the newest when none is named. */
export const binaryOf = (kind: ServerKind, version?: string): ServerVersion => {
  const all = serversFound()[kind]
  const found = version === undefined ? all.at(-1) : all.findLast((one) => `${one.version}.`.startsWith(`${version}.`))
  if (found === undefined) {
    const has = all.length === 0 ? "none can be started here" : `there is ${all.map((one) => one.version).join(", ")}`
    throw new Error(`no ${kind}-server ${version ?? ""}: ${has}; KEYFOLD_${kind.toUpperCase()}_SERVER names binaries`)
  }
  return found
}

/** Compares "2.9.10" and "2.10.1" by their numbers. */
export const compareVersions = (a: string, b: string): number => {
  const [left, right] = [a, b].map((version) => version.split(".").map(Number)) as [number[], number[]]
  for (let index = 0; index < 3; index++) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

const versionsOf = (kind: ServerKind): readonly string[] => {
  if (addressOf(kind) !== undefined) return [running]
  const versions = serversFound()[kind].map((one) => one.version)
  return process.env["KEYFOLD_TEST"] === "full" ? versions : versions.filter((_, index) => index === 0 || index === versions.length - 1)
}
