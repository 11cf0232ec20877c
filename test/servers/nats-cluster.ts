/** Nodes of one NATS cluster with JetStream, on loopback: streams with as many replicas as there are nodes. */
import { jetstreamManager } from "@nats-io/jetstream"
import { connect } from "@nats-io/transport-node"
import { startNats } from "./nats-server.ts"
import { releasePort, takePort } from "./ports.ts"
import { type Server, sleep, startAll } from "./server.ts"

export interface NatsCluster extends AsyncDisposable {
  /** Killed, paused and restarted one by one. */
  readonly nodes: readonly Server[]
  /** The addresses of all, separated by commas. */
  readonly url: string
  /** The addresses of all, for a client's list of servers. */
  readonly urls: readonly string[]
  /** The node that leads JetStream's own group; undefined while there is none. */
  leader(): Promise<Server | undefined>
  /** The node of this name, as JetStream answers it: `stream.cluster.leader`. */
  nodeOf(serverName: string): Server
  /**
   * Returns when there is a leader and every node that runs is healthy: connected, and its streams caught up. A node that does not get there
   * is restarted, as an operator would: nodes of 2.10 that were killed now and then never catch up ("group node unhealthy").
   */
  ready(): Promise<void>
  stop(): Promise<void>
}

export interface NatsClusterOptions {
  readonly version?: string
  readonly config?: string
  readonly jetstream?: string
}

interface Member {
  readonly name: string
  readonly node: Server
  readonly monitorPort: number
}

const readyMsMax = 150_000
const healthyMsMax = 30_000
const probe = "ready-probe"

export const startNatsCluster = async (count = 3, options: NatsClusterOptions = {}): Promise<NatsCluster> => {
  const ports = await Promise.all(Array.from({ length: 2 * count }, takePort))
  const routePorts = ports.slice(0, count)
  const routes = routePorts.map((port) => `nats://127.0.0.1:${port}`)
  const planned = routePorts.map((routePort, index) => ({
    name: `n${index + 1}-${routePort}`,
    routePort,
    monitorPort: ports[count + index] as number
  }))
  const nodes = await startAll(
    planned.map(({ name, routePort, monitorPort }) => {
      const config = [
        `http: "127.0.0.1:${monitorPort}"`,
        `cluster { name: keyfold, listen: "127.0.0.1:${routePort}", routes: ${JSON.stringify(routes)} }`,
        options.config ?? ""
      ]
      return startNats({ ...options, config: config.join("\n"), serverName: name })
    })
  )
  const members = planned.map(({ name, monitorPort }, index): Member => ({ name, monitorPort, node: nodes[index] as Server }))
  const stop = async (): Promise<void> => {
    await Promise.all(nodes.map((node) => node.stop()))
    for (const port of ports) releasePort(port)
  }
  const cluster: NatsCluster = {
    nodes,
    url: nodes.map((node) => node.url).join(","),
    urls: nodes.map((node) => node.url),
    leader: async () => {
      const names = await Promise.all(members.filter(({ node }) => node.isRunning).map(leaderOf))
      return members.find(({ name, node }) => node.isRunning && names.includes(name))?.node
    },
    nodeOf: (serverName) => {
      const member = members.find(({ name }) => name === serverName)
      if (member === undefined) throw new Error(`no node of this cluster is called ${serverName}`)
      return member.node
    },
    ready: () => ready(members),
    stop,
    [Symbol.asyncDispose]: stop
  }
  try {
    await cluster.ready()
    await takesReplicas(cluster.urls, count)
    return cluster
  } catch (failure) {
    await stop()
    throw failure
  }
}

const ready = async (members: readonly Member[]): Promise<void> => {
  const endMs = performance.now() + readyMsMax
  let restartMs = performance.now() + healthyMsMax
  for (;;) {
    const alive = members.filter(({ node }) => node.isRunning)
    const leaders = new Set(await Promise.all(alive.map(leaderOf)))
    const [leader] = leaders
    const isLed = leaders.size === 1 && alive.some(({ name }) => name === leader)
    const health = await Promise.all(alive.map(isHealthy))
    if (isLed && health.every(Boolean)) return
    const logs = (): string => alive.map(({ node }) => node.log.slice(-2_000)).join("\n")
    if (performance.now() > endMs) throw new Error(`the NATS cluster is not ready within ${readyMsMax} ms: ${logs()}`)
    const sick = alive.filter((_, index) => !health[index])
    if (sick.length === 1 && performance.now() > restartMs) {
      restartMs = performance.now() + healthyMsMax
      for (const { name, node } of sick) {
        console.log(`${name} does not get healthy and is restarted`)
        await node.kill()
        await node.start()
      }
    }
    await sleep(100)
  }
}

/** A leader that has just been elected refuses streams ("no suitable peers for placement") until it has heard of the others. */
const takesReplicas = async (urls: readonly string[], count: number): Promise<void> => {
  const endMs = performance.now() + readyMsMax
  const connection = await connect({ servers: [...urls], noAsyncTraces: true })
  try {
    const { streams } = await jetstreamManager(connection, { timeout: 20_000 })
    for (;;) {
      try {
        await streams.add({ name: probe, subjects: [probe], num_replicas: count })
        break
      } catch (thrown) {
        if (performance.now() > endMs) throw thrown
        await sleep(100)
      }
    }
    await streams.delete(probe)
  } finally {
    await connection.close()
  }
}

/** Who leads, as this node sees it. */
const leaderOf = async ({ monitorPort }: Member): Promise<string | undefined> => {
  const text = await monitored(monitorPort, "jsz")
  const state = text === undefined ? undefined : (JSON.parse(text) as { readonly meta_cluster?: { readonly leader?: string } })
  return state?.meta_cluster?.leader
}

const isHealthy = async ({ monitorPort }: Member): Promise<boolean> => (await monitored(monitorPort, "healthz")) !== undefined

/** What a node answers on its monitoring port; undefined when it does not answer, or answers that it is not well. */
const monitored = async (port: number, path: string): Promise<string | undefined> => {
  try {
    const answer = await fetch(`http://127.0.0.1:${port}/${path}`, { signal: AbortSignal.timeout(2_000) })
    const text = await answer.text()
    return answer.ok ? text : undefined
  } catch {
    return undefined
  }
}
