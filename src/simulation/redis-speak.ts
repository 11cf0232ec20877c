/** `speak` of partition/membership-scripts.ts, which says what it takes and answers; the keys' expiry, a day, is left out. */
import type { RedisReply } from "../storage/redis-link.ts"
import { listsIn } from "./redis-arguments.ts"
import { type Bytes, bulk, type RedisData, scoreText } from "./redis-data.ts"
import type { ScriptRun } from "./redis-scripts.ts"

interface Members {
  readonly others: readonly Bytes[]
  /** Of the one who speaks: the revision that it was answered last, and the number of its last call. */
  readonly seen: Bytes | undefined
  readonly lastCall: number
}

interface Keys {
  readonly workers: Bytes
  readonly owners: Bytes
  readonly news: Bytes
  readonly changes: Bytes
}

interface Words {
  readonly claims: readonly Bytes[]
  readonly news: readonly (readonly [partition: Bytes, text: Bytes])[]
  readonly given: readonly Bytes[]
}

export const speaking = ({ data, keys: all, args, nowMicros }: ScriptRun): RedisReply => {
  const [workers = "", owners = "", news = "", changes = ""] = all
  const keys: Keys = { workers, owners, news, changes }
  const [id = "", mode = "", leaseMs = "", since = "", , call = "", ...lists] = args
  const nowMs = Math.floor(nowMicros / 1_000)
  const { others, seen, lastCall } = membersAt(data, keys, { id, nowMs })
  if (mode !== "join" && seen === undefined) return [bulk("gone")]
  if (Number(call) <= lastCall) return [bulk("late")]

  let revision = scoreText(data.zscore(changes, "") ?? 0)
  if (mode === "join" || args.length > 9) {
    revision = scoreText(Math.max(Number(revision) + 1, nowMicros))
    data.zadd(changes, [[Number(revision), ""]])
  }
  const brought = take(data, keys, wordsIn(lists), { id, revision, alive: new Set(mode === "join" ? others : []) })
  const members = mode === "leave" ? others : [...others, id]
  if (mode === "leave") data.hdel(workers, [id])
  else data.hset(workers, { [id]: `${nowMs + Number(leaseMs)} ${revision} ${call}` })

  const isWhole = mode === "join" || seen !== since
  const changed = data
    .zrange(changes)
    .filter(([entry, score]) => entry !== "" && (isWhole || (score > Number(since) && !brought.has(entry))))
  const entries = changed.map(([entry]) => entry)
  const valuesOf = (kind: string, key: Bytes): RedisReply =>
    entries.filter((entry) => entry.startsWith(kind)).map((entry) => bulk(data.hash(key).get(entry.slice(1)) ?? ""))
  return [
    ...[bulk("ok"), bulk(isWhole ? "all" : "changed"), bulk(revision), members.map(bulk), entries.map(bulk)],
    ...[valuesOf("o", owners), valuesOf("n", news), isWhole ? changed.map(([, score]) => bulk(scoreText(score))) : []]
  ]
}

const membersAt = (data: RedisData, { workers }: Keys, { id, nowMs }: { readonly id: Bytes; readonly nowMs: number }): Members => {
  const others: Bytes[] = []
  let seen: Bytes | undefined
  let lastCall = 0
  for (const [member, said] of [...data.hash(workers)]) {
    const [, leaseEnd = "", revision, number] = /^(\d+) (\d+) (\d+)$/.exec(said) ?? []
    if (revision === undefined || Number(leaseEnd) <= nowMs) data.hdel(workers, [member])
    else if (member === id) {
      seen = revision
      lastCall = Number(number)
    } else others.push(member)
  }
  return { others, seen, lastCall }
}

const wordsIn = (lists: readonly Bytes[]): Words => {
  const list = listsIn(lists)
  return { claims: list(1).flat(), news: list(2) as unknown as [Bytes, Bytes][], given: list(1).flat() }
}

/** Answers what news it brought that are taken. */
const take = (
  data: RedisData,
  { owners, news, changes }: Keys,
  words: Words,
  by: { readonly id: Bytes; readonly revision: Bytes; readonly alive: ReadonlySet<Bytes> }
): ReadonlySet<Bytes> => {
  const brought = new Set<Bytes>()
  const change = (entry: Bytes): void => data.zadd(changes, [[Number(by.revision), entry]])
  for (const partition of words.claims) {
    if (by.alive.has(data.hash(owners).get(partition) ?? "")) continue
    data.hset(owners, { [partition]: by.id })
    change(`o${partition}`)
  }
  for (const [partition, text] of words.news) {
    if (data.hash(owners).get(partition) !== by.id) continue
    data.hset(news, { [partition]: text })
    change(`n${partition}`)
    brought.add(`n${partition}`)
  }
  for (const partition of words.given) {
    if (data.hash(owners).get(partition) !== by.id) continue
    data.hdel(owners, [partition])
    change(`o${partition}`)
  }
  return brought
}
