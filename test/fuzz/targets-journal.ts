/** What the journal reads: entries, states, progress, and all of it together at a take-over. */

import { crc32 } from "node:zlib"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { KeyfoldError } from "../../src/errors.ts"
import { decodeOutbox, decodeTurn, encodeOutbox, encodeTurn } from "../../src/journal/entry.ts"
import { JournalMemory } from "../../src/journal/journal-memory.ts"
import { JournalReads } from "../../src/journal/journal-reads.ts"
import { decodeValue, encodeValue } from "../../src/journal/key-value.ts"
import { recover } from "../../src/journal/recovery.ts"
import { emptyOutbox, type KeyImage } from "../../src/model/turn.ts"
import { decodeProgress, encodeProgress, type Progress } from "../../src/partition/progress.ts"
import { journalKeys } from "../../src/storage/redis-fence.ts"
import type { RedisArgument, RedisReply } from "../../src/storage/redis-link.ts"
import { RedisTenure } from "../../src/storage/redis-tenure.ts"
import { agree } from "./agreement.ts"
import { groupsIn } from "./parts.ts"
import { settled } from "./settled.ts"
import type { Target } from "./target.ts"

const what = "the entry 300-0 of kf:{q/s/0}"

/** As if keyfold had written it: what is wrong is not seen by the checksum. */
const sealed = (entry: Buffer): Buffer => {
  if (entry.length >= 8) entry.writeUInt32LE(crc32(entry.subarray(8), crc32(entry.subarray(0, 4))), 4)
  return entry
}

const damaged = ["directory-damaged", "format-newer"] as const

const turnEntry: Target = {
  name: "turn-entry",
  allowed: damaged,
  names: /^the entry 300-0 of kf:\{q\/s\/0\} (is damaged: .+|has .+: a newer keyfold wrote it)/,
  sealed,
  read: (input) => {
    const { confirmed, ...turn } = decodeTurn(input, what)
    const again = decodeTurn(encodeTurn({ ...turn, outbox: emptyOutbox }, confirmed).bytes, what)
    agree({ ...again, changes: again.changes.map(plain) }, { ...turn, confirmed, changes: turn.changes.map(plain) })
  }
}

const plain = ({ keyText, bytes, timeoutAt }: KeyImage): KeyImage => ({ keyText, bytes: bytes && new Uint8Array(bytes), timeoutAt })

const outboxEntry: Target = {
  name: "outbox-entry",
  allowed: damaged,
  names: turnEntry.names,
  sealed,
  read: (input) => {
    const entry = decodeOutbox(input, what)
    agree(decodeOutbox(encodeOutbox(entry), what), entry)
  }
}

const stateValue: Target = {
  name: "state-value",
  allowed: damaged,
  names: /^a state in kf:\{q\/s\/0\}:state (is damaged: .+|has .+: a newer keyfold wrote it)/,
  read: (input) => agree(encodeValue(decodeValue("key", input, "a state in kf:{q/s/0}:state")), Buffer.from(input))
}

const inputs = [{ topic: "clicks" }, { topic: "views" }]

const progress: Target = {
  name: "progress",
  allowed: ["directory-damaged", "schema-incompatible"],
  names: /^the journal of q\/s\/0 (is damaged: .+|was written by a job that read )/,
  words: ["null", "{}", "[]", '"__proto__"', "1e999", "-1", "true", '""', '"clicks"', "0.5", "[[[["],
  read: (input) => {
    const written = encodeProgress(opened(decodeProgress(input.toString(), inputs, "the journal of q/s/0")))
    agree(encodeProgress(opened(decodeProgress(written, inputs, "the journal of q/s/0"))), written)
  }
}

const opened = (read: Progress | KeyfoldError): Progress => {
  if (read instanceof KeyfoldError) throw read
  return read
}

/** The five keys of a journal, as Redis answers them: groups of fields of `meta`, of ids and entries, of keys and values, of keys and times. */
const recovery: Target = {
  name: "recovery",
  allowed: ["directory-damaged", "format-newer"],
  names: /kf:\{q\/s\/0\}|the journal q\/s\/0/,
  words: ["NaN", "-1", "1e999", "0-0", "1-1", "e"],
  read: (input) => settled(Effect.scoped(takenOver(groupsIn(input))))
}

const takenOver = Effect.fnUntraced(function* ([meta = [], log = [], outbox = [], state = [], timeouts = []]: ReturnType<typeof groupsIn>) {
  const owner = { query: "q", stage: "s", partition: 0, epoch: 1, token: "1.n" }
  const keys = journalKeys("kf", owner)
  const [revision = 0, snapshot = 0, confirmed = 0, last = 0] = meta.slice(0, 4).map((part) => Number(part.toString()))
  const data = new Map([
    [keys.log, log],
    [keys.outbox, outbox],
    [keys.state, state],
    [keys.timeouts, timeouts]
  ])
  const refuse = () => Effect.die(new Error("nothing is written"))
  const command = (name: string, key: string, args: readonly RedisArgument[]) => Effect.succeed(answer(name, data.get(key) ?? [], args))
  const tenure = new RedisTenure({
    link: { name: "Redis", script: refuse, command, lastingScript: undefined },
    owner,
    keys,
    meta: { revision, snapshot, confirmed, outbox: last, fingerprint: undefined, progress: meta[4]?.toString() },
    leaseMs: 1e9,
    rev: 1,
    sentMs: 0,
    scope: yield* Scope.Scope
  })
  const memory = new JournalMemory(yield* recover(tenure, 0))
  const reads = new JournalReads(tenure, memory)
  yield* reads.load(["a", "b", ...pairs(state).map(([key]) => key.toString())])
  yield* reads.timeouts
  const due = yield* reads.due({ before: Number.POSITIVE_INFINITY, countMax: 100 })
  agree(
    due.filter(({ timeoutAt }) => timeoutAt === undefined || Number.isNaN(timeoutAt)),
    []
  )
  yield* reads.keys
})

const pairs = (parts: readonly Buffer[]): readonly (readonly [Buffer, Buffer])[] =>
  Array.from({ length: parts.length >> 1 }, (_, index) => [parts[2 * index] as Buffer, parts[2 * index + 1] as Buffer] as const)

/** What Redis would answer, as far as the journal asks, of what Redis can hold: ids ascend, scores are numbers, no key is there twice. */
const answer = (name: string, parts: readonly Buffer[], args: readonly RedisArgument[]): RedisReply => {
  if (name === "XRANGE") return entriesFrom(parts, Number.parseInt(String(args[0]), 10)).slice(0, Number(args[3]))
  const fields = new Map(pairs(parts).map(([field, value]) => [field.toString("latin1"), value]))
  if (name === "HMGET") return args.map((key) => fields.get(Buffer.from(key as string).toString("latin1")) ?? null)
  if (name === "HSCAN") return [Buffer.from("0"), [...fields].flatMap(([field, value]) => [Buffer.from(field, "latin1"), value])]
  const scored = [...fields].filter(([, score]) => isScore(score)).toSorted(([, left], [, right]) => scoreOf(left) - scoreOf(right))
  const [from, to] = (name === "ZREVRANGEBYSCORE" ? [args[1], args[0]] : args).map(String) as [string, string]
  const found = scored.filter(([, score]) => !isBelow(score, from) && !isBeyond(score, to))
  const skip = Number(args[4])
  const page = (name === "ZREVRANGEBYSCORE" ? found.toReversed() : found).slice(skip, skip + Number(args[5]))
  return page.flatMap(([field, score]) => [Buffer.from(field, "latin1"), score])
}

const entriesFrom = (parts: readonly Buffer[], from: number): readonly RedisReply[] => {
  const entries = new Map(pairs(parts).flatMap(([id, entry]) => (/^\d{1,15}-\d{1,5}$/.test(id.toString()) ? [[id.toString(), entry]] : [])))
  const order = ([id]: readonly [string, Buffer]): readonly number[] => id.split("-").map(Number)
  return [...entries]
    .toSorted((left, right) => (order(left)[0] ?? 0) - (order(right)[0] ?? 0) || (order(left)[1] ?? 0) - (order(right)[1] ?? 0))
    .filter((entry) => (order(entry)[0] ?? 0) >= from)
    .map(([id, entry]) => [Buffer.from(id), [Buffer.from("e"), entry]])
}

const scoreOf = (score: Uint8Array | string): number => Number(String(score).replace("inf", "Infinity"))
const isScore = (score: Buffer): boolean => /^-?(\d+(\.\d+)?(e[+-]?\d+)?|inf)$/.test(score.toString())
const isBelow = (score: Buffer, bound: string): boolean =>
  bound.startsWith("(") ? scoreOf(score) <= scoreOf(bound.slice(1)) : scoreOf(score) < scoreOf(bound)
const isBeyond = (score: Buffer, bound: string): boolean =>
  bound.startsWith("(") ? scoreOf(score) >= scoreOf(bound.slice(1)) : scoreOf(score) > scoreOf(bound)

export const journalTargets: readonly Target[] = [turnEntry, outboxEntry, stateValue, progress, recovery]
