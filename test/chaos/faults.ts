/** What is done to a run, how often, and how. */

import { sleep } from "../fixtures/waiting.ts"
import type { Server } from "../servers/server.ts"
import type { Seat } from "./seat.ts"

/** What a fault is done to. Nothing has two faults at a time; different things may. */
export type Target =
  | "worker" // one that is there
  | "leaver" // one that is there and is gone afterwards
  | "newcomer" // a seat without a worker, which has one afterwards
  | "workers" // all that are there
  | "line" // the connections of one worker
  | "nats"
  | "redis"

export interface Targets {
  /** Of `worker`, `leaver`, `newcomer`, `line`. */
  readonly seat: Seat
  /** Those with a worker. */
  readonly filled: readonly Seat[]
  readonly nats: Server
  readonly redis: Server
}

export interface Fault {
  readonly name: string
  /** How often, against the others. */
  readonly weight: number
  readonly target: Target
  /** How long it may last; short ones are more frequent. 0 for what takes no time. */
  readonly msMax: number
  readonly act: (to: Targets, ms: number) => Promise<void> | void
}

const servers = ["nats", "redis"] as const

const workerFaults: readonly Fault[] = [
  {
    name: "worker killed, replaced",
    weight: 12,
    target: "worker",
    msMax: 0,
    act: async ({ seat }) => {
      await seat.kill()
      seat.fill()
    }
  },
  {
    // Up to three leases: others take over, and a zombie wakes up.
    name: "worker stopped (SIGSTOP)",
    weight: 12,
    target: "worker",
    msMax: 6_000,
    act: async ({ seat }, ms) => {
      seat.pause()
      await sleep(ms)
      seat.resume()
    }
  },
  { name: "worker joins", weight: 10, target: "newcomer", msMax: 0, act: ({ seat }) => seat.fill() },
  { name: "worker leaves in order", weight: 4, target: "leaver", msMax: 0, act: ({ seat }) => seat.leave() },
  { name: "worker dies for good", weight: 3, target: "leaver", msMax: 0, act: ({ seat }) => seat.kill() },
  {
    name: "all workers killed, replaced",
    weight: 1,
    target: "workers",
    msMax: 0,
    act: async ({ filled }) => {
      await Promise.all(filled.map((seat) => seat.kill()))
      for (const seat of filled) seat.fill()
    }
  }
]

const lineFaults: readonly Fault[] = servers.flatMap((server): readonly Fault[] => [
  { name: `connections to ${server} cut`, weight: 3, target: "line", msMax: 0, act: ({ seat }) => seat.lines[server].cut() },
  {
    name: `half-open to ${server}`,
    weight: 3,
    target: "line",
    msMax: 12_000,
    act: async ({ seat }, ms) => {
      seat.lines[server].swallow(true)
      await sleep(ms)
      seat.lines[server].swallow(false)
    }
  },
  {
    name: `the network to ${server} stands still`,
    weight: 2,
    target: "line",
    msMax: 6_000,
    act: async ({ seat }, ms) => {
      seat.lines[server].hold(true)
      await sleep(ms)
      seat.lines[server].hold(false)
    }
  },
  {
    name: `${server} answers late`,
    weight: 1,
    target: "line",
    msMax: 10_000,
    act: async ({ seat }, ms) => {
      seat.lines[server].delay(30)
      await sleep(ms)
      seat.lines[server].delay(0)
    }
  },
  {
    name: `${server} refuses connections`,
    weight: 1,
    target: "line",
    msMax: 10_000,
    act: async ({ seat }, ms) => {
      await seat.lines[server].refuse(true)
      seat.lines[server].cut()
      await sleep(ms)
      await seat.lines[server].refuse(false)
    }
  }
])

const serverFaults: readonly Fault[] = servers.flatMap((server): readonly Fault[] => [
  {
    name: `${server} killed, away`,
    weight: 2,
    target: server,
    msMax: 20_000,
    act: async (to, ms) => {
      await to[server].kill()
      await sleep(ms)
      await to[server].start()
    }
  },
  { name: `${server} restarted in order`, weight: 1, target: server, msMax: 0, act: (to) => to[server].restart() },
  {
    name: `${server} stopped (SIGSTOP)`,
    weight: 1,
    target: server,
    msMax: 8_000,
    act: async (to, ms) => {
      to[server].pause()
      await sleep(ms)
      to[server].resume()
    }
  }
])

export const faults: readonly Fault[] = [...workerFaults, ...lineFaults, ...serverFaults]
