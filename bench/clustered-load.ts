/**
 * A process that publishes hits, by hand over the NATS client: `clustered-load.ts <NATS address> <name>`. Its orders:
 *
 *   { fill: n }          one quiet hit of each of n users, then a loud one in each partition; says when all are stored
 *   { users, burst: n }  n hits, as fast as they can be stored; says when all are
 *   { users, rate }      so many a second from now on, in parcels a millisecond apart, each stamped when it is sent
 *   { rate: 0 }          no more; says how many it sent, and the longest pause between two parcels
 */
import { connect, createInbox } from "@nats-io/transport-node"
import { fnv1a32 } from "../src/model/hash.ts"
import { countPartitions, type Hit, hitsName, machineUs } from "./clustered-counts.ts"

export interface LoadReport {
  readonly sent: number
  readonly pauseMsMax: number
}

export type LoadOrder =
  | { readonly fill: number }
  | { readonly users: number; readonly burst: number }
  | { readonly users: number; readonly rate: number }

const [address = "", name = ""] = process.argv.slice(2)
const underWayMax = 8_192
const nats = await connect({ servers: address, noAsyncTraces: true })
const inbox = createInbox()
let underWay = 0
let settled: (() => void) | undefined
nats.subscribe(inbox, {
  callback: (_, message) => {
    if (message.json<{ readonly error?: unknown }>().error !== undefined) throw new Error(message.string())
    underWay -= 1
    if (underWay === 0 || underWay === underWayMax / 2) settled?.()
  }
})

const send = (user: string, quiet: boolean): void => {
  const hit: Hit = { user, sentUs: machineUs(), from: "https://news.example.com/", ...(quiet && { quiet }) }
  underWay += 1
  nats.publish(`${hitsName(name)}.${fnv1a32(user) % countPartitions}`, JSON.stringify(hit), { reply: inbox })
}

const atMost = async (most: number): Promise<void> => {
  while (underWay > most) {
    await new Promise<void>((done) => {
      settled = done
    })
  }
}

const fill = async (users: number): Promise<void> => {
  for (let user = 0; user < users; user++) {
    send(`user-${user}`, true)
    if (underWay >= underWayMax) await atMost(underWayMax / 2)
  }
  const ofPartition = new Map<number, string>()
  for (let user = 0; ofPartition.size < countPartitions; user++) {
    ofPartition.set(fnv1a32(`user-${user}`) % countPartitions, `user-${user}`)
  }
  for (const user of ofPartition.values()) send(user, false)
  await atMost(0)
  process.send?.({ sent: users, pauseMsMax: 0 } satisfies LoadReport)
}

const burst = async (count: number): Promise<void> => {
  for (let hit = 0; hit < count; hit++) {
    send(someUser(), false)
    if (underWay >= underWayMax) await atMost(underWayMax / 2)
  }
  await atMost(0)
  process.send?.({ sent: count, pauseMsMax: 0 } satisfies LoadReport)
}

let users = 1
let rate = 0
let sent = 0
let beganMs = 0
let parcelMs = 0
let pauseMsMax = 0
let seed = 7

const someUser = (): string => {
  seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
  return `user-${(seed >>> 4) % users}`
}

const parcel = (): void => {
  const nowMs = performance.now()
  pauseMsMax = Math.max(pauseMsMax, nowMs - parcelMs)
  parcelMs = nowMs
  for (const due = ((nowMs - beganMs) / 1_000) * rate; sent < due; sent++) send(someUser(), false)
  if (rate > 0) setTimeout(parcel, 1)
  else process.send?.({ sent, pauseMsMax } satisfies LoadReport)
}

process.on("message", (order: LoadOrder) => {
  if ("users" in order) users = order.users
  if ("fill" in order) void fill(order.fill)
  else if ("burst" in order) void burst(order.burst)
  else if (order.rate > 0) {
    rate = order.rate
    sent = 0
    pauseMsMax = 0
    beganMs = performance.now()
    parcelMs = beganMs
    parcel()
  } else rate = 0
})
process.on("disconnect", () => process.exit(0))
process.send?.("ready")
