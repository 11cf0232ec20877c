/**
 * The data of a simulated Redis, with the commands that keyfold uses, as Redis 7 and 8 have been seen to answer them. Texts are kept as one
 * character a byte, so that order and equality are those of bytes.
 */
import type { RedisArgument, RedisReply } from "../storage/redis-link.ts"

/** One character a byte. */
export type Bytes = string

export type Hash = Map<Bytes, Bytes>

export interface StreamEntry {
  readonly id: number
  readonly fields: readonly Bytes[]
}

type Value =
  | { readonly type: "hash"; readonly hash: Hash }
  | { readonly type: "stream"; readonly stream: { entries: StreamEntry[]; lastId: number } }
  | { readonly type: "zset"; readonly scores: Map<Bytes, number> }

type ValueOf<Type extends Value["type"]> = Value & { readonly type: Type }

/** What a server says no with. */
export class RedisError extends Error {
  override readonly name = "ReplyError"
}

export const bytesOf = (argument: RedisArgument): Bytes =>
  typeof argument === "string"
    ? Buffer.from(argument).toString("latin1")
    : Buffer.from(argument.buffer, argument.byteOffset, argument.byteLength).toString("latin1")

/** What a client gets for it. */
export const bulk = (bytes: Bytes | undefined): RedisReply => (bytes === undefined ? null : Buffer.from(bytes, "latin1"))

export class RedisData {
  #values: Map<Bytes, Value>

  constructor(values = new Map<Bytes, Value>()) {
    this.#values = values
  }

  /** A copy that does not change with this one. */
  copy(): RedisData {
    return new RedisData(new Map([...this.#values].map(([key, value]) => [key, copyOf(value)])))
  }

  get keys(): readonly Bytes[] {
    return [...this.#values.keys()]
  }

  typeOf(key: Bytes): string {
    return this.#values.get(key)?.type ?? "none"
  }

  remove(key: Bytes): void {
    this.#values.delete(key)
  }

  /** What is at a key, made when nothing is. */
  #at<Type extends Value["type"]>(key: Bytes, type: Type, make: () => ValueOf<Type>): ValueOf<Type> {
    const value = this.#values.get(key) ?? make()
    if (value.type !== type) throw wrongType()
    this.#values.set(key, value)
    return value as ValueOf<Type>
  }

  // ---- hashes

  hash(key: Bytes): ReadonlyMap<Bytes, Bytes> {
    const value = this.#values.get(key)
    if (value === undefined) return nothing
    if (value.type !== "hash") throw wrongType()
    return value.hash
  }

  hset(key: Bytes, fields: Readonly<Record<string, Bytes>> | readonly (readonly [Bytes, Bytes])[]): void {
    const { hash } = this.#at(key, "hash", () => ({ type: "hash", hash: new Map() }))
    for (const [field, of] of Array.isArray(fields) ? fields : Object.entries(fields)) hash.set(field, of)
  }

  hdel(key: Bytes, fields: readonly Bytes[]): void {
    const value = this.#values.get(key)
    if (value?.type !== "hash") return
    for (const field of fields) value.hash.delete(field)
    if (value.hash.size === 0) this.#values.delete(key)
  }

  // ---- streams

  xadd(key: Bytes, id: number, fields: readonly Bytes[]): void {
    const { stream } = this.#at(key, "stream", () => ({ type: "stream", stream: { entries: [], lastId: 0 } }))
    if (id <= stream.lastId) throw new RedisError("ERR The ID specified in XADD is equal or smaller than the target stream top item")
    stream.entries.push({ id, fields })
    stream.lastId = id
  }

  /** XTRIM MINID. */
  xtrim(key: Bytes, leastId: number): void {
    const value = this.#values.get(key)
    if (value?.type === "stream") value.stream.entries = value.stream.entries.filter(({ id }) => id >= leastId)
  }

  xrange(key: Bytes, leastId: number, count: number): readonly StreamEntry[] {
    const value = this.#values.get(key)
    if (value === undefined) return []
    if (value.type !== "stream") throw wrongType()
    return value.stream.entries.filter(({ id }) => id >= leastId).slice(0, count)
  }

  // ---- sorted sets

  zadd(key: Bytes, members: readonly (readonly [score: number, member: Bytes])[]): void {
    const { scores } = this.#at(key, "zset", () => ({ type: "zset", scores: new Map() }))
    for (const [score, member] of members) scores.set(member, score)
  }

  zrem(key: Bytes, members: readonly Bytes[]): void {
    const value = this.#values.get(key)
    if (value?.type !== "zset") return
    for (const member of members) value.scores.delete(member)
    if (value.scores.size === 0) this.#values.delete(key)
  }

  zscore(key: Bytes, member: Bytes): number | undefined {
    const value = this.#values.get(key)
    return value?.type === "zset" ? value.scores.get(member) : undefined
  }

  /** By score, then by bytes. */
  zrange(key: Bytes): readonly (readonly [member: Bytes, score: number])[] {
    const value = this.#values.get(key)
    if (value === undefined) return []
    if (value.type !== "zset") throw wrongType()
    return [...value.scores].sort(([one, low], [other, high]) => low - high || (one < other ? -1 : 1))
  }

  /** A command that reads, as a client sends it. */
  command(name: string, key: Bytes, args: readonly Bytes[]): RedisReply {
    const command = commands[name]
    if (command === undefined) throw new RedisError(`ERR unknown command '${name}': this simulation has none`)
    return command(this, key, args)
  }
}

const nothing: ReadonlyMap<Bytes, Bytes> = new Map()

const wrongType = (): RedisError => new RedisError("WRONGTYPE Operation against a key holding the wrong kind of value")

const copyOf = (value: Value): Value => {
  if (value.type === "hash") return { type: "hash", hash: new Map(value.hash) }
  if (value.type === "zset") return { type: "zset", scores: new Map(value.scores) }
  return { type: "stream", stream: { entries: [...value.stream.entries], lastId: value.stream.lastId } }
}

type Command = (data: RedisData, key: Bytes, args: readonly Bytes[]) => RedisReply

/** A sorted set between two scores, the first argument where it begins. */
const byScore =
  (isReversed: boolean): Command =>
  (data, key, [from = "", to = "", ...options]) => {
    const [low, high] = isReversed ? [to, from] : [from, to]
    const members = data.zrange(key).filter(([, score]) => isAbove(score, low) && isBelow(score, high))
    const limit = options.indexOf("LIMIT")
    const ordered = isReversed ? members.toReversed() : members
    const skip = Number(options[limit + 1])
    const found = limit < 0 ? ordered : ordered.slice(skip, skip + Number(options[limit + 2]))
    const hasScores = options.includes("WITHSCORES")
    return found.flatMap(([member, score]) => (hasScores ? [bulk(member), bulk(scoreText(score))] : [bulk(member)]))
  }

const isAbove = (score: number, bound: string): boolean =>
  bound.startsWith("(") ? score > scoreOf(bound.slice(1)) : score >= scoreOf(bound)

const isBelow = (score: number, bound: string): boolean =>
  bound.startsWith("(") ? score < scoreOf(bound.slice(1)) : score <= scoreOf(bound)

const scoreOf = (text: string): number => {
  if (/^[+-]?inf$/.test(text)) return text.startsWith("-") ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY
  return Number(text)
}

/** As Redis writes whole numbers. */
export const scoreText = (score: number): Bytes => String(score)

const commands: Readonly<Record<string, Command>> = {
  HMGET: (data, key, fields) => fields.map((field) => bulk(data.hash(key).get(field))),
  HGETALL: (data, key) => [...data.hash(key)].flatMap(([field, value]) => [bulk(field), bulk(value)]),
  // All at once: a client must take any number of them.
  HSCAN: (data, key) => [bulk("0"), [...data.hash(key)].flatMap(([field, value]) => [bulk(field), bulk(value)])],
  XRANGE: (data, key, [from = "", , , count = ""]) =>
    data.xrange(key, Number(from.replace(/-\d+$/, "")), Number(count)).map(({ id, fields }) => [bulk(`${id}-0`), fields.map(bulk)]),
  ZRANGEBYSCORE: byScore(false),
  ZREVRANGEBYSCORE: byScore(true)
}
