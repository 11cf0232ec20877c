/**
 * What the journal in Redis costs: turns of some events, each of which changes the state and timeout of one of 10,000 keys, and every tenth of
 * which puts a record out, are committed one after the other, with checkpoints as often as they come.
 * Baseline: the same bytes as one JSON text a turn, appended by XADD: no fence, no state, no timeouts, nothing to recover from.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import { makeRedisJournal } from "../src/journal/redis.ts"
import { noHeaders } from "../src/model/record.ts"
import type { JournalOwner, TurnRecord } from "../src/model/turn.ts"
import { makeRedisOwnership } from "../src/partition/ownership-redis.ts"
import { openRedisLink } from "../src/runtime/redis-link.ts"
import { RedisTenures } from "../src/storage/redis-tenure.ts"
import { provision } from "../test/servers/provision.ts"
import { startRedis } from "../test/servers/redis-server.ts"
import { fixed, row } from "./measure.ts"

const keyCount = 10_000
const stateOf = (number: number): Uint8Array =>
  new Uint8Array(Buffer.from(JSON.stringify({ start: 1_700_000_000_000 + number, end: 1_700_000_060_000 + number, count: number % 100 })))

let serial = 0

const makeTurn = (revision: number, events: number): TurnRecord => {
  const changes = Array.from({ length: events }, () => {
    serial += 1
    return { keyText: `user-${(serial * 7_919) % keyCount}`, bytes: stateOf(serial), timeoutAt: 1_700_000_000_000 + serial }
  })
  const records = changes
    .filter((_, index) => (serial + index) % 10 === 0)
    .map(({ bytes }) => {
      outputs += 1
      return {
        topic: "sessions",
        partition: outputs % 16,
        publishedAt: 1,
        headers: noHeaders,
        payload: bytes,
        identity: { writer: "w", number: outputs }
      }
    })
  return {
    revision,
    progress: JSON.stringify({ now: revision, watermark: revision, positions: [revision] }),
    changes,
    outbox: { records, deliveries: [] }
  }
}

let outputs = 0

/** What a Redis and this process have spent so far. */
const spent = async (client: Redis) => {
  const info = await client.info()
  const of = (name: string): number => Number(new RegExp(`^${name}:([\\d.]+)`, "m").exec(info)?.[1])
  const { user, system } = process.cpuUsage()
  return {
    bytesIn: of("total_net_input_bytes"),
    bytesOut: of("total_net_output_bytes"),
    redisUs: 1e6 * (of("used_cpu_user") + of("used_cpu_sys")),
    clientUs: user + system,
    ms: performance.now()
  }
}

interface Contestant {
  readonly name: string
  readonly commit: (turn: TurnRecord) => Promise<unknown>
  readonly calls: () => number
}

const measureOne = async (
  client: Redis,
  { commit, calls }: Contestant,
  turns: readonly TurnRecord[],
  widths: readonly number[],
  name: string
) => {
  const events = turns.reduce((sum, { changes }) => sum + changes.length, 0)
  const [before, callsBefore] = [await spent(client), calls()]
  for (const turn of turns) await commit(turn)
  const [after, callsAfter] = [await spent(client), calls()]
  const per = (value: number, of: number): string => fixed(value / of)
  const kilo = events / 1_000
  const cells = [
    name,
    per(callsAfter - callsBefore, kilo),
    per((after.bytesIn - before.bytesIn) / 1_024, kilo),
    per((after.bytesOut - before.bytesOut) / 1_024, kilo),
    per(after.clientUs - before.clientUs, events),
    per(after.redisUs - before.redisUs, events),
    per(1_000 * (after.ms - before.ms), turns.length)
  ]
  process.stdout.write(`${row(cells, widths)}\n`)
}

export const redisJournalBench = async (): Promise<void> => {
  await provision()
  await using server = await startRedis()
  const client = new Redis(server.url)
  const scope = Effect.runSync(Scope.make())
  const inScope = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>): Promise<A> =>
    Effect.runPromise(Effect.provideService(effect, Scope.Scope, scope))
  const ours = await inScope(openContestant(server.url))
  const byHand = handContestant(client)
  const widths = [26, 10, 10, 10, 12, 12, 12]
  process.stdout.write(
    "\nthe journal in Redis, beside one XADD of JSON a turn; per 1,000 events: calls, KiB in, KiB out; us per event: client, Redis; us per turn\n"
  )
  process.stdout.write(`${row(["", "calls", "KiB in", "KiB out", "client us", "Redis us", "us a turn"], widths)}\n`)
  let revision = 0
  for (const events of [1, 100, 1_000, 4_096]) {
    const count = Math.max(60, Math.min(20_000, Math.floor(400_000 / events)))
    for (const contestant of [byHand, ours, byHand, ours]) {
      const turns = Array.from({ length: count }, () => makeTurn(contestant === ours ? ++revision : 0, events))
      await measureOne(client, contestant, turns, widths, `${events} events, ${contestant.name}`)
    }
  }
  await Effect.runPromise(Scope.close(scope, Exit.void))
  client.disconnect()
}

const handContestant = (client: Redis): Contestant => {
  let calls = 0
  return {
    name: "by hand",
    commit: ({ changes, outbox, progress }) => {
      calls += 1
      const images = changes.map(({ keyText, bytes, timeoutAt }) => [keyText, Buffer.from(bytes as Uint8Array).toString(), timeoutAt])
      const records = outbox.records.map(({ payload, identity }) => [identity?.number, Buffer.from(payload).toString()])
      return client.xadd("hand", "MAXLEN", "~", 10_000, "*", "e", JSON.stringify({ images, records, progress }))
    },
    calls: () => calls
  }
}

const openContestant = (url: string): Effect.Effect<Contestant, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    let calls = 0
    const link = yield* openRedisLink(url, { level: "process", isStrict: false, warn: () => undefined })
    const counted =
      <A extends readonly unknown[], B>(call: (...args: A) => B) =>
      (...args: A): B => {
        calls += 1
        return call(...args)
      }
    const tenures = new RedisTenures()
    const counting = { ...link, script: counted(link.script), command: counted(link.command) }
    const ownership = yield* makeRedisOwnership(counting, tenures, { worker: "bench", leaseMs: 60_000, prefix: "kf" })
    const journal = makeRedisJournal(tenures, { checkpointEveryMs: 5_000, historyKeptMs: 300_000 })
    const owner: JournalOwner = yield* ownership.acquire({ query: "bench", stage: "s", partition: 0 })
    yield* journal.open(owner, "json/1")
    const commit = (turn: TurnRecord) =>
      Effect.runPromise(Effect.andThen(journal.commit(owner, turn), journal.confirm(owner, turn.revision)))
    return { name: "keyfold", commit, calls: () => calls }
  })
