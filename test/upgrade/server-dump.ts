/**
 * What servers hold, as a file: every key of a Redis, every stream of a NATS. Bytes that are no plain text are base64. What is read here, and
 * put back, does not go through keyfold's code: that is what the fixtures are to try.
 */
import { crc32 } from "node:zlib"
import { headers, type NatsConnection } from "@nats-io/transport-node"
import type { Redis } from "ioredis"

// ---- bytes as text

const mark = "base64:"

const textOf = (bytes: Uint8Array): string => {
  const text = Buffer.from(bytes).toString("latin1")
  return /^[ -~]*$/.test(text) && !text.startsWith(mark) ? text : `${mark}${Buffer.from(bytes).toString("base64")}`
}

export const bytesOf = (text: string): Buffer =>
  text.startsWith(mark) ? Buffer.from(text.slice(mark.length), "base64") : Buffer.from(text, "latin1")

// ---- Redis

/** Of a hash: fields and values; of a stream: ids and entries; of a sorted set: members and scores. */
export interface DumpedKey {
  readonly key: string
  readonly type: "hash" | "stream" | "zset"
  readonly pairs: readonly (readonly [string, string])[]
}

export const dumpRedis = async (redis: Redis, pattern: string): Promise<readonly DumpedKey[]> => {
  const keys = (await redis.keys(pattern)).toSorted()
  return Promise.all(keys.map(async (key) => ({ key, ...(await dumpKey(redis, key)) })))
}

const dumpKey = async (redis: Redis, key: string): Promise<Omit<DumpedKey, "key">> => {
  const type = await redis.type(key)
  if (type === "stream") {
    const entries = (await redis.callBuffer("XRANGE", key, "-", "+")) as [Buffer, [Buffer, Buffer]][]
    return { type, pairs: entries.map(([id, [, entry]]) => [id.toString(), textOf(entry)] as const) }
  }
  if (type !== "hash" && type !== "zset") throw new Error(`${key} is a ${type}`)
  const read = type === "hash" ? ["HGETALL", key] : ["ZRANGE", key, "0", "-1", "WITHSCORES"]
  const flat = (await redis.callBuffer(...(read as [string, string]))) as Buffer[]
  const pairs = Array.from(
    { length: flat.length / 2 },
    (_, index) => [textOf(flat[2 * index] as Buffer), textOf(flat[2 * index + 1] as Buffer)] as const
  )
  return { type, pairs: pairs.toSorted(([left], [right]) => (left < right ? -1 : 1)) }
}

export const loadRedis = async (redis: Redis, dumped: readonly DumpedKey[]): Promise<void> => {
  for (const { key, type, pairs } of dumped) {
    for (const [left, right] of pairs) {
      if (type === "hash") await redis.call("HSET", key, bytesOf(left), bytesOf(right))
      else if (type === "zset") await redis.call("ZADD", key, right, bytesOf(left))
      else await redis.call("XADD", key, left, "e", bytesOf(right))
    }
  }
}

// ---- NATS

export interface DumpedMessage {
  readonly subject: string
  readonly headers: readonly (readonly [string, string])[]
  readonly data: string
}

export interface DumpedStream {
  /** As it was asked for. */
  readonly config: Readonly<Record<string, unknown>> & { readonly name: string }
  readonly created: string
  /** The first is message 1. */
  readonly messages: readonly DumpedMessage[]
}

const asked = async <A>(nats: NatsConnection, subject: string, body: object = {}): Promise<A> => {
  const answer = (await nats.request(`$JS.API.${subject}`, JSON.stringify(body), { timeout: 5_000 })).json<
    A & { readonly error?: { readonly description: string } }
  >()
  if (answer.error !== undefined) throw new Error(`${subject}: ${answer.error.description}`)
  return answer
}

interface Info {
  readonly config: Readonly<Record<string, unknown>> & { readonly name: string }
  readonly created: string
  readonly state: { readonly first_seq: number; readonly last_seq: number; readonly messages: number }
}

/** What keyfold asks for; the rest is the server's own. */
const configNames = ["name", "description", "subjects", "storage", "retention", "discard", "num_replicas", "duplicate_window"]

export const dumpNats = async (nats: NatsConnection): Promise<readonly DumpedStream[]> => {
  const { streams } = await asked<{ readonly streams: readonly Info[] | null }>(nats, "STREAM.LIST")
  const dumped: DumpedStream[] = []
  for (const { config, created, state } of streams ?? []) {
    if (state.messages > 0 && state.first_seq !== 1) throw new Error(`${config.name} was trimmed: it cannot be put back`)
    const messages: DumpedMessage[] = []
    for (let sequence = 1; sequence <= state.last_seq; sequence++) messages.push(await messageAt(nats, config.name, sequence))
    const named = Object.fromEntries(configNames.map((name) => [name, config[name]]))
    dumped.push({ config: { ...named, name: config.name }, created, messages })
  }
  return dumped.toSorted((left, right) => (left.config.name < right.config.name ? -1 : 1))
}

const messageAt = async (nats: NatsConnection, stream: string, seq: number): Promise<DumpedMessage> => {
  interface Found {
    readonly message: { readonly subject: string; readonly hdrs?: string; readonly data?: string }
  }
  const { message } = await asked<Found>(nats, `STREAM.MSG.GET.${stream}`, { seq })
  const block = Buffer.from(message.hdrs ?? "", "base64").toString()
  const lines = block
    .split("\r\n")
    .slice(1)
    .filter((line) => line !== "")
  return {
    subject: message.subject,
    headers: lines.map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()] as const),
    data: textOf(Buffer.from(message.data ?? "", "base64"))
  }
}

/** Answers when each stream was created there, by its name. */
export const loadNats = async (nats: NatsConnection, dumped: readonly DumpedStream[]): Promise<ReadonlyMap<string, string>> => {
  const created = new Map<string, string>()
  for (const { config, messages } of dumped) {
    created.set(config.name, (await asked<Info>(nats, `STREAM.CREATE.${config.name}`, config)).created)
    for (const { subject, headers: named, data } of messages) {
      const own = headers()
      for (const [name, value] of named) own.append(name, value)
      const ack = await nats.request(subject, bytesOf(data), { headers: own, timeout: 5_000 })
      const { error, seq } = ack.json<{ readonly error?: object; readonly seq?: number }>()
      if (error !== undefined || seq === undefined) throw new Error(`${config.name} does not take a message: ${JSON.stringify(error)}`)
    }
  }
  return created
}

// ---- the one thing that cannot be put back: when streams were created

/**
 * A journal knows its streams by when they were created, which a server says by itself. So journals are told the times of the streams that
 * were loaded; in the same length, because entries are binary, and under a checksum of their own (docs/journal-format.md, version 1).
 */
export const withCreated = (
  dumped: readonly DumpedKey[],
  streams: readonly DumpedStream[],
  created: ReadonlyMap<string, string>
): readonly DumpedKey[] => {
  const times = new Map(streams.map((stream) => [stream.created, created.get(stream.config.name) as string]))
  return dumped.map((one) => ({ ...one, pairs: one.pairs.map(([left, right]) => [left, retold(bytesOf(right), times)] as const) }))
}

const retold = (bytes: Buffer, times: ReadonlyMap<string, string>): string => {
  const text = bytes.toString("latin1")
  const told = text.replaceAll(/"created":"([^"]+)","position":(\d+),"publishedAt":(\d+|null)/g, (whole, old: string, position: string) => {
    const now = `"created":"${times.get(old)}","position":${position},"publishedAt":null`
    if (!times.has(old) || now.length > whole.length) throw new Error(`there is no telling ${whole} anew`)
    return now.padEnd(whole.length)
  })
  if (told === text) return textOf(bytes)
  const changed = Buffer.from(told, "latin1")
  return textOf(isEntry(changed) ? sealed(changed) : changed)
}

const isEntry = (bytes: Buffer): boolean => bytes[0] === 0x6b && bytes[1] === 0x66

export const sealed = (entry: Buffer): Buffer => {
  entry.writeUInt32LE(crc32(entry.subarray(8), crc32(entry.subarray(0, 4))), 4)
  return entry
}
