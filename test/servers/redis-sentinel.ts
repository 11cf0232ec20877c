/** A Redis primary with replicas that sentinels watch: they promote a replica when the primary is gone. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { redisInfo } from "./redis-answer.ts"
import { startRedis } from "./redis-server.ts"
import { type Server, sleep, startAll, startServer } from "./server.ts"
import { binaryOf } from "./versions.ts"

export interface WatchedRedis extends AsyncDisposable {
  /** What clients ask the sentinels for. */
  readonly name: string
  readonly sentinels: readonly Server[]
  /** The first was started as the primary. */
  readonly nodes: readonly Server[]
  /** The node that the sentinels name. */
  primary(): Promise<Server | undefined>
  stop(): Promise<void>
}

export interface SentinelOptions {
  readonly version?: string
  readonly replicaCount?: number
  /** A primary that is silent for this long is taken for dead and replaced. */
  readonly downAfterMs?: number
  /** Of the data nodes. */
  readonly args?: readonly string[]
}

const name = "keyfold"
const sentinelCount = 3
const readyMsMax = 60_000

export const startWatchedRedis = async (options: SentinelOptions = {}): Promise<WatchedRedis> => {
  const { replicaCount = 1, downAfterMs = 1_000, args = [], ...version } = options
  const first = await startRedis({ ...version, args: ["--repl-diskless-sync-delay", "0", ...args] })
  const replicaOf = ["--replicaof", "127.0.0.1", String(first.port)]
  const others = await startAll([
    ...Array.from({ length: replicaCount }, () =>
      startRedis({ ...version, args: ["--repl-diskless-sync-delay", "0", ...replicaOf, ...args] })
    ),
    ...Array.from({ length: sentinelCount }, () => startSentinel(first.port, downAfterMs, options.version))
  ])
  const nodes = [first, ...others.slice(0, replicaCount)]
  const sentinels = others.slice(replicaCount)
  const primary = async (): Promise<Server | undefined> => {
    const named = await Promise.all(sentinels.filter((one) => one.isRunning).map((one) => primaryPort(one.port)))
    return nodes.find((node) => named.length > 0 && named.every((port) => port === node.port))
  }
  const stop = async (): Promise<void> => {
    await Promise.all([...sentinels, ...nodes].map((one) => one.stop()))
  }
  const endMs = performance.now() + readyMsMax
  while (!(await Promise.all(sentinels.map((one) => knowsAll(one.port, replicaCount)))).every(Boolean)) {
    if (performance.now() > endMs) {
      await stop()
      throw new Error(`the sentinels did not find each other and the replicas within ${readyMsMax} ms`)
    }
    await sleep(20)
  }
  return { name, sentinels, nodes, primary, stop, [Symbol.asyncDispose]: stop }
}

const startSentinel = (primaryPortNow: number, downAfterMs: number, version: string | undefined): Promise<Server> => {
  const binary = binaryOf("redis", version)
  return startServer("sentinel", (port, directory) => {
    const configPath = join(directory, "sentinel.conf") // sentinels write what they learn into it
    const lines = [
      `port ${port}`,
      "bind 127.0.0.1",
      `dir ${directory}`,
      `sentinel monitor ${name} 127.0.0.1 ${primaryPortNow} ${Math.floor(sentinelCount / 2) + 1}`,
      `sentinel down-after-milliseconds ${name} ${downAfterMs}`,
      `sentinel failover-timeout ${name} ${3 * downAfterMs}` // sentinels that could not agree try again after twice that
    ]
    writeFileSync(configPath, `${lines.join("\n")}\n`)
    return {
      name: `redis-sentinel ${binary.version} on port ${port}`,
      binary,
      port,
      directory,
      url: `redis://127.0.0.1:${port}`,
      args: [configPath, "--sentinel"],
      answers: async (pid) => (await redisInfo(port)).get("process_id") === String(pid)
    }
  })
}

const primaryPort = async (sentinelPort: number): Promise<number | undefined> => {
  const state = (await redisInfo(sentinelPort)).get("master0")
  const found = /address=127\.0\.0\.1:(\d+)/.exec(state ?? "")?.[1]
  return found === undefined ? undefined : Number(found)
}

const knowsAll = async (sentinelPort: number, replicaCount: number): Promise<boolean> => {
  const state = (await redisInfo(sentinelPort)).get("master0") ?? ""
  return state.includes("status=ok") && state.includes(`slaves=${replicaCount},sentinels=${sentinelCount}`)
}
