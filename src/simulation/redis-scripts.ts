/**
 * What the scripts of the Redis adapters do, once more, for a simulated Redis: Lua is not at hand there. test/sim/redis.test.ts gives the same
 * calls to these and to real servers, and compares replies and keys; so the two cannot differ for long.
 */
import { checkpointChunk, checkpointEnd, commit, confirm } from "../journal/scripts.ts"
import { speak } from "../partition/membership-scripts.ts"
import { acquire, clock, release } from "../partition/ownership-scripts.ts"
import { keyTypes, witness } from "../storage/redis-fence.ts"
import type { RedisReply } from "../storage/redis-link.ts"
import { listsIn } from "./redis-arguments.ts"
import { type Bytes, bulk, type RedisData } from "./redis-data.ts"
import { speaking } from "./redis-speak.ts"

/** One run of a script: it is alone while it runs, and what it has written stays written when it fails. */
export interface ScriptRun {
  readonly data: RedisData
  readonly keys: readonly Bytes[]
  readonly args: readonly Bytes[]
  /** Redis' own clock. */
  readonly nowMicros: number
}

export interface SimulatedScript {
  /** For a history that people read. */
  readonly name: string
  readonly run: (call: ScriptRun) => RedisReply
  /** A full server refuses it at its entry. */
  readonly isRefusedWhenFull: boolean
}

export const nowMsOf = ({ nowMicros }: ScriptRun): number => Math.floor(nowMicros / 1_000)

type Body = (call: ScriptRun, metaKey: Bytes, args: readonly Bytes[]) => void

/** The fence (F), and behind it a body that writes; its arguments are those from ARGV[5] on. */
const fenced =
  (body: Body): SimulatedScript["run"] =>
  (call) => {
    const { data, keys, args } = call
    const [token, revision, operation, leaseMs] = args
    const meta = keys[0] as Bytes
    const fence = data.hash(meta)
    if (fence.get("token") !== token) return bulk("FENCED")
    const lease = String(nowMsOf(call) + Number(leaseMs))
    if (fence.get("op") === operation) {
      data.hset(meta, { lease })
      return bulk("ALREADY")
    }
    if (fence.get("rev") !== revision) return bulk("MOVED")
    body(call, meta, args.slice(4))
    data.hset(meta, { rev: String(Number(revision) + 1), op: operation as Bytes, lease })
    return bulk("OK")
  }

const committing: Body = ({ data, keys }, meta, [revision = "", confirmed = "", entry = "", outbox = "", fingerprint = ""]) => {
  data.xadd(keys[1] as Bytes, Number(revision), ["e", entry])
  if (outbox !== "") {
    data.xadd(keys[2] as Bytes, Number(revision), ["e", outbox])
    data.hset(meta, { outbox: revision })
  }
  if (fingerprint !== "") data.hset(meta, { fingerprint })
  data.hset(meta, { head: revision, confirmed })
}

const confirming: Body = ({ data }, meta, [confirmed = ""]) => data.hset(meta, { confirmed })

const chunk: Body = ({ data, keys }, _, args) => {
  const list = listsIn(args)
  const [state, timeouts] = [keys[3] as Bytes, keys[4] as Bytes]
  const values = list(2)
  const gone = list(1)
  const armed = list(2)
  const disarmed = list(1)
  if (values.length > 0) data.hset(state, values as [Bytes, Bytes][])
  data.hdel(state, gone.flat())
  if (armed.length > 0)
    data.zadd(
      timeouts,
      armed.map(([score, key]) => [Number(score), key as Bytes])
    )
  data.zrem(timeouts, disarmed.flat())
}

const ending: Body = ({ data, keys }, meta, [snapshot = "", progress = "", confirmed = "", logFrom = "", outboxFrom = ""]) => {
  data.hset(meta, { snapshot, progress, confirmed })
  data.xtrim(keys[1] as Bytes, Number(logFrom))
  data.xtrim(keys[2] as Bytes, Number(outboxFrom))
}

const witnessing: SimulatedScript["run"] = (call) => {
  const { data, keys, args } = call
  const [token, revision, leaseMs] = args
  const meta = keys[0] as Bytes
  if (data.hash(meta).get("token") !== token) return bulk("FENCED")
  if (Number(data.hash(meta).get("rev")) < Number(revision)) return bulk("MOVED")
  data.hset(meta, { lease: String(nowMsOf(call) + Number(leaseMs)) })
  return bulk("OK")
}

const acquiring: SimulatedScript["run"] = (call) => {
  const { data, keys, args } = call
  const [nonce, worker = "", leaseMs, formatKnown = ""] = args
  const types = keys.map((key) => data.typeOf(key))
  for (const [index, type] of types.entries()) {
    if (type !== "none" && type !== keyTypes[index]) return [bulk("TYPE"), bulk(keys[index]), bulk(type)]
  }
  const torn = types.findIndex((type, index) => index > 0 && type !== "none")
  if (types[0] === "none" && torn > 0) return [bulk("TORN"), bulk(keys[torn])]
  const meta = keys[0] as Bytes
  const before = data.hash(meta)
  const format = before.get("format")
  if (format !== undefined && Number(format) > Number(formatKnown)) return [bulk("NEWER"), bulk(format)]
  let epoch = before.get("epoch") ?? "0"
  let rev = before.get("rev") ?? "0"
  if (before.get("token") !== `${epoch}.${nonce}`) {
    const leftMs = (Number(before.get("lease")) || 0) - nowMsOf(call)
    const holder = before.get("worker")
    if (leftMs > 0 && holder !== worker) return [bulk("HELD"), bulk(holder), bulk(String(leftMs))]
    epoch = String(Number(epoch) + 1)
    rev = String(Number(rev) + 1)
  }
  const lease = String(nowMsOf(call) + Number(leaseMs))
  data.hset(meta, { format: formatKnown, token: `${epoch}.${nonce}`, worker, epoch, rev, op: "", lease })
  const rest = ["head", "snapshot", "confirmed", "outbox", "fingerprint", "progress"].map((field) => data.hash(meta).get(field) ?? "")
  return [bulk("OK"), bulk(epoch), bulk(rev), ...rest.map(bulk)]
}

const releasing: SimulatedScript["run"] = ({ data, keys, args: [token, revision] }) => {
  const meta = keys[0] as Bytes
  if (data.hash(meta).get("token") !== token) return bulk("FENCED")
  if (data.hash(meta).get("rev") !== revision) return bulk("MOVED")
  data.hset(meta, { lease: "0", worker: "", token: "" })
  return bulk("OK")
}

const telling: SimulatedScript["run"] = ({ nowMicros }) => [
  bulk(String(Math.floor(nowMicros / 1_000_000))),
  bulk(String(nowMicros % 1_000_000))
]

const scripts: readonly (readonly [lua: string, name: string, run: SimulatedScript["run"]])[] = [
  [clock, "clock", telling],
  [acquire, "acquire", acquiring],
  [release, "release", releasing],
  [witness, "witness", witnessing],
  [commit, "commit", fenced(committing)],
  [confirm, "confirm", fenced(confirming)],
  [checkpointChunk, "checkpoint chunk", fenced(chunk)],
  [checkpointEnd, "checkpoint end", fenced(ending)],
  [speak, "speak", speaking]
]

/** By their Lua. A full server takes what helps it out: all but commits. */
export const simulatedScripts: ReadonlyMap<string, SimulatedScript> = new Map(
  scripts.map(([lua, name, run]) => [lua, { name, run, isRefusedWhenFull: lua === commit }])
)
