/**
 * Servers out of Debian's packages, unpacked into the cache: no root, nothing installed, no service started.
 *
 * A server of a newer suite may need a newer C library than the system has; then the libraries it names are unpacked beside it, the C library
 * and its loader with them, and the loader starts it.
 */
import { execFile } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { versionOf } from "./binary.ts"
import type { ServerKind, ServerVersion } from "./versions.ts"

const run = promisify(execFile)

export interface DebianServer {
  readonly kind: ServerKind
  /** The code name; the system's own suite is taken from the system's own sources, with its security updates. */
  readonly suite: string
}

/** What is asked for: nats-server 2.9, 2.10 and 2.15 (what they answer differs), redis 7.0 and 8.0; and what the system itself has. */
const suites: Readonly<Record<ServerKind, readonly string[]>> = { nats: ["bookworm", "trixie", "forky"], redis: ["bookworm", "trixie"] }

export const debianServers = (kind: ServerKind): readonly DebianServer[] => {
  const own = systemSuite()
  const all = own === undefined || suites.nats.includes(own) ? suites[kind] : [own, ...suites[kind]]
  return all.map((suite) => ({ kind, suite }))
}

const packages = {
  nats: { names: ["nats-server"], libraries: "nats-server", program: "usr/sbin/nats-server" },
  redis: { names: ["redis-server", "redis-tools"], libraries: "redis-tools", program: "usr/bin/redis-server" }
} as const

/** The server that an earlier call unpacked into the cache. */
export const cachedServer = (cache: string, { kind, suite }: DebianServer): ServerVersion | undefined => {
  const manifest = join(cache, suite, kind, "server.json")
  if (!existsSync(manifest)) return undefined
  const server = JSON.parse(readFileSync(manifest, "utf8")) as ServerVersion
  return server.version !== undefined && existsSync(server.program) ? server : undefined
}

/**
 * Downloads and unpacks servers of one suite; answers what cannot be had, with the reason. Several processes may do it at once: each works in
 * a directory of its own and moves what is whole into its place.
 */
export const unpackSuite = async (cache: string, suite: string, kinds: readonly ServerKind[]): Promise<ReadonlyMap<ServerKind, string>> => {
  const faults = new Map<ServerKind, string>()
  mkdirSync(cache, { recursive: true })
  const work = mkdtempSync(join(cache, "new-"))
  try {
    for (const kind of kinds) {
      await unpackServer(cache, work, { kind, suite }).catch((failure: Error) => faults.set(kind, reasonOf(failure)))
    }
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return faults
}

/** First with the system's own lists, when it is the system's suite; they may lack the package or be older than the mirror. */
const unpackServer = async (cache: string, work: string, server: DebianServer): Promise<void> => {
  const place = async (apt: Apt): Promise<void> => {
    const unpacked = join(work, server.kind)
    const target = join(cache, server.suite, server.kind)
    await unpack(apt, packages[server.kind].names, unpacked)
    writeFileSync(join(unpacked, "server.json"), JSON.stringify(await startable(apt, server.kind, unpacked, target)))
    mkdirSync(join(cache, server.suite), { recursive: true })
    rmSync(target, { recursive: true, force: true })
    renameSync(unpacked, target)
  }
  const isPlaced = (): boolean => cachedServer(cache, server) !== undefined
  if (server.suite === systemSuite()) await place(aptWith([])).catch(() => undefined)
  if (!isPlaced()) await aptOf(server.suite, work).then(place)
}

/** Runs apt-get or apt-cache for one suite; `cwd` is where downloads go. */
type Apt = (tool: "apt-get" | "apt-cache", args: readonly string[], cwd: string) => Promise<string>

/** With lists of our own, which any user may write; they are fetched once for all servers of the suite. */
const aptOf = async (suite: string, work: string): Promise<Apt> => {
  const own = join(work, "apt")
  const settings = [
    `Dir::State::lists=${own}/lists`,
    `Dir::State::status=${own}/status`,
    `Dir::Cache=${own}`,
    "APT::Sandbox::User=",
    "Acquire::Languages=none",
    "Acquire::http::Timeout=20",
    "Acquire::Retries=1"
  ]
  if (suite !== systemSuite()) settings.push(`Dir::Etc::SourceList=${own}/suite.sources`, `Dir::Etc::SourceParts=${own}/none`)
  const apt = aptWith(settings)
  if (existsSync(own)) return apt
  for (const folder of ["lists/partial", "archives/partial", "none"]) mkdirSync(join(own, folder), { recursive: true })
  writeFileSync(join(own, "status"), "")
  if (suite !== systemSuite()) writeFileSync(join(own, "suite.sources"), sourcesOf(suite))
  // Of the system's own sources some other may fail and Debian's still be there.
  await apt("apt-get", suite === systemSuite() ? ["update"] : ["update", "--error-on=any"], own).catch((failure) => {
    rmSync(own, { recursive: true, force: true })
    throw failure
  })
  return apt
}

const aptWith =
  (settings: readonly string[]): Apt =>
  async (tool, args, cwd) => {
    const options = settings.flatMap((setting) => ["-o", setting])
    const { stdout } = await run(tool, [...options, ...args], { cwd, env: { ...process.env, LC_ALL: "C" }, maxBuffer: 2 ** 26 })
    return stdout
  }

const unpack = async (apt: Apt, names: readonly string[], into: string): Promise<void> => {
  const downloads = `${into}.debs`
  for (const path of [downloads, into]) rmSync(path, { recursive: true, force: true })
  mkdirSync(downloads, { recursive: true })
  mkdirSync(into, { recursive: true })
  await apt("apt-get", ["download", "-qq", ...names], downloads)
  for (const file of readdirSync(downloads)) await run("dpkg", ["-x", join(downloads, file), into])
  rmSync(downloads, { recursive: true, force: true })
}

/** As it is, or with its own libraries and loader; the paths are those it has when it is in its place. */
const startable = async (apt: Apt, kind: ServerKind, unpacked: string, target: string): Promise<ServerVersion> => {
  const { program, libraries } = packages[kind]
  const plain = await versionOf(join(unpacked, program), [])
  if (plain !== undefined) return { version: plain, program: join(target, program), args: [] }
  const root = join(unpacked, "libraries")
  await unpack(apt, await librariesOf(apt, libraries, unpacked), root)
  const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => !entry.isDirectory())
  const loader = files.find((entry) => /^ld-linux.*\.so\.\d+$/.test(entry.name) && !entry.isSymbolicLink())
  if (loader === undefined) throw new Error(`the C library of ${unpacked} has no loader`)
  const loaderPath = join(loader.parentPath, loader.name)
  const folders = [...new Set(files.filter((entry) => /\.so(\.|$)/.test(entry.name)).map((entry) => entry.parentPath))]
  const version = await versionOf(loaderPath, ["--library-path", folders.join(":"), join(unpacked, program)])
  if (version === undefined) throw new Error(`${program} does not run here, not even with its own libraries`)
  const placed = (path: string): string => path.replace(unpacked, target)
  return { version, program: placed(loaderPath), args: ["--library-path", folders.map(placed).join(":"), join(target, program)] }
}

/** The library packages that a package needs, and those that these need. */
const librariesOf = async (apt: Apt, name: string, cwd: string): Promise<readonly string[]> => {
  const graph = await apt("apt-cache", ["depends", "--recurse", "--important", "--no-recommends", name], cwd)
  const needs = new Map<string, string[]>()
  let dependencies: string[] = []
  for (const line of graph.split("\n")) {
    const library = /^ {2}(?:Pre)?Depends: (lib[^\s<]+)$/.exec(line)?.[1]
    if (library !== undefined) dependencies.push(library)
    if (!/^\S/.test(line)) continue
    dependencies = []
    needs.set(line, dependencies)
  }
  const found = new Set(needs.get(name))
  for (const library of found) for (const next of needs.get(library) ?? []) found.add(next) // a set hands out what is added on the way
  return [...found]
}

const systemSuite = (): string | undefined => {
  const text = existsSync("/etc/os-release") ? readFileSync("/etc/os-release", "utf8") : ""
  return /^VERSION_CODENAME=(\S+)$/m.exec(text)?.[1]
}

/** The mirror of the system's own sources; Debian's front door on a system that is not Debian. */
const mirror = (): string => {
  const folder = "/etc/apt/sources.list.d"
  const files = ["/etc/apt/sources.list", ...(existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [])]
  const text = files
    .filter((path) => existsSync(path))
    .map((path) => readFileSync(path, "utf8"))
    .join("\n")
  return /^(?:URIs:|deb) .*?(https?:\/\/\S+\/debian)\/?(?:\s|$)/m.exec(text)?.[1] ?? "http://deb.debian.org/debian"
}

const sourcesOf = (suite: string): string => {
  const keys = ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"].find((path) =>
    existsSync(path)
  )
  if (keys === undefined) throw new Error("Debian's signing keys are not installed (package debian-archive-keyring)")
  return `Types: deb\nURIs: ${mirror()}\nSuites: ${suite}\nComponents: main\nSigned-By: ${keys}\n`
}

const reasonOf = (failure: Error & { readonly code?: unknown }): string =>
  failure.code === "ENOENT" ? "there is no apt-get" : (failure.message.split("\n").find((line) => line.startsWith("E:")) ?? failure.message)
