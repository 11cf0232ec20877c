/** A Redis Cluster on loopback: primaries with one replica each, all slots assigned. */
import { releasePort, takePort } from "./ports.ts"
import { redisAnswer, redisInfo } from "./redis-answer.ts"
import { startRedis } from "./redis-server.ts"
import { type Server, sleep, startAll } from "./server.ts"

export interface RedisCluster extends AsyncDisposable {
  /** Killed, paused and restarted one by one. The first half was started as primaries; a fail-over changes that. */
  readonly nodes: readonly Server[]
  readonly urls: readonly string[]
  /** The nodes that say now that they are primaries. */
  primaries(): Promise<readonly Server[]>
  /** Returns when every node that runs sees all slots served, and every replica that runs has its primary's data. */
  ready(): Promise<void>
  stop(): Promise<void>
}

export interface RedisClusterOptions {
  readonly version?: string
  readonly appendfsync?: "always" | "everysec" | "no"
  /** A primary that is silent for this long is taken for dead and replaced. */
  readonly nodeTimeoutMs?: number
  readonly args?: readonly string[]
}

const primaryCount = 3
const slotCount = 16_384
const readyMsMax = 60_000

export const startRedisCluster = async (options: RedisClusterOptions = {}): Promise<RedisCluster> => {
  const busPorts = await Promise.all(Array.from({ length: 2 * primaryCount }, takePort))
  const nodes = await startAll(busPorts.map((busPort) => startNode(busPort, options)))
  const stop = async (): Promise<void> => {
    await Promise.all(nodes.map((node) => node.stop()))
    for (const port of busPorts) releasePort(port)
  }
  const cluster: RedisCluster = {
    nodes,
    urls: nodes.map((node) => node.url),
    primaries: async () => {
      const roles = await Promise.all(nodes.map(async (node) => node.isRunning && (await redisInfo(node.port)).get("role") === "master"))
      return nodes.filter((_, index) => roles[index])
    },
    ready: () =>
      until("every slot is served and every replica has caught up", nodes, async () =>
        (await Promise.all(nodes.map(isWell))).every(Boolean)
      ),
    stop,
    [Symbol.asyncDispose]: stop
  }
  try {
    await form(nodes, busPorts)
    await cluster.ready()
    return cluster
  } catch (failure) {
    await stop()
    throw failure
  }
}

const startNode = (busPort: number, options: RedisClusterOptions): Promise<Server> => {
  const { nodeTimeoutMs = 1_000, args = [], ...others } = options
  // Replicas begin at once: five seconds of waiting for others is the default.
  const settings = { "cluster-port": busPort, "cluster-node-timeout": nodeTimeoutMs, "repl-diskless-sync-delay": 0 }
  const flags = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)])
  return startRedis({ ...others, args: ["--cluster-enabled", "yes", ...flags, ...args] })
}

/** What redis-cli --cluster create does. */
const form = async (nodes: readonly Server[], busPorts: readonly number[]): Promise<void> => {
  const [primaries, replicas] = [nodes.slice(0, primaryCount), nodes.slice(primaryCount)]
  for (const [index, node] of nodes.entries()) await tell(node, `CLUSTER SET-CONFIG-EPOCH ${index + 1}`) // two equal ones would have to be settled
  for (const [index, node] of primaries.entries()) {
    const slotOf = (primary: number): number => Math.floor((primary * slotCount) / primaryCount)
    await tell(node, `CLUSTER ADDSLOTSRANGE ${slotOf(index)} ${slotOf(index + 1) - 1}`)
  }
  const first = nodes[0] as Server
  for (const [index, node] of nodes.entries())
    if (node !== first) await tell(first, `CLUSTER MEET 127.0.0.1 ${node.port} ${busPorts[index]}`)
  await until("every node knows every other", nodes, async () => {
    const states = await Promise.all(nodes.map((node) => redisAnswer(node.port, "CLUSTER NODES")))
    return states.every(
      (text) => text.split("\n").filter((line) => line.includes(" connected")).length === nodes.length && !text.includes("handshake")
    )
  })
  for (const [index, node] of replicas.entries()) {
    const id = /([0-9a-f]{40})/.exec(await redisAnswer((primaries[index] as Server).port, "CLUSTER MYID"))?.[1]
    await tell(node, `CLUSTER REPLICATE ${id}`)
  }
}

const isWell = async (node: Server): Promise<boolean> => {
  if (!node.isRunning) return true
  const cluster = await redisAnswer(node.port, "CLUSTER INFO")
  const info = await redisInfo(node.port)
  return cluster.includes("cluster_state:ok") && (info.get("role") === "master" || info.get("master_link_status") === "up")
}

const tell = async (node: Server, command: string): Promise<void> => {
  const answer = await redisAnswer(node.port, command)
  if (!answer.startsWith("+OK")) throw new Error(`${command}: ${answer}`)
}

const until = async (what: string, nodes: readonly Server[], condition: () => Promise<boolean>): Promise<void> => {
  const endMs = performance.now() + readyMsMax
  while (!(await condition())) {
    const logs = (): string => nodes.map((node) => node.log.slice(-1_000)).join("\n")
    if (performance.now() > endMs) throw new Error(`waited ${readyMsMax} ms in vain until ${what}: ${logs()}`)
    await sleep(20)
  }
}
