/**
 * Ports on the loopback address that stay ours while their server is down.
 *
 * They lie below the range that the system takes for outgoing connections: in that range a client that keeps trying to reach a server that is
 * down can be given the server's own port and connect to itself. Each process has a block of its own, so that files that run in parallel
 * don't take each other's port between a kill and a restart.
 */
import { createServer } from "node:net"

const first = 10_240
const blockCount = 700
const blockPorts = 32

const held = new Set<number>()
let next = 0

export const takePort = async (): Promise<number> => {
  const block = first + (process.pid % blockCount) * blockPorts
  for (let tries = 0; tries < 4 * blockPorts; tries++) {
    const port = block + (next++ % blockPorts)
    if (held.has(port)) continue
    held.add(port)
    if (await isFree(port)) return port
    held.delete(port)
  }
  throw new Error(`no free port from ${block} to ${block + blockPorts - 1}: stop servers that are no longer needed`)
}

export const releasePort = (port: number): void => {
  held.delete(port)
}

const isFree = (port: number): Promise<boolean> =>
  new Promise((answer) => {
    const server = createServer()
    server.once("error", () => answer(false))
    server.listen(port, "127.0.0.1", () => server.close(() => answer(true)))
  })
