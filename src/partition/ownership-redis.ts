/**
 * Ownership over Redis: a lease per partition, in the partition's own slot, and with it the token that every write carries (P1, P21). Owns
 * when a lease is taken, prolonged and given back; what a tenure may do meanwhile is storage/redis-tenure.ts'.
 *
 * One round of prolonging serves all partitions of this process. A commit prolongs the lease as well, so a busy partition asks for nothing.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import { InvariantError, KeyfoldError } from "../errors.ts"
import { randomName } from "../model/random-name.ts"
import type { JournalId } from "../model/turn.ts"
import { monotonicMs } from "../storage/monotonic.ts"
import { type JournalKeys, journalFormat, journalKeys } from "../storage/redis-fence.ts"
import { type RedisLink, replyParts, replyText } from "../storage/redis-link.ts"
import { marginPart, RedisTenure, type RedisTenures } from "../storage/redis-tenure.ts"
import { journalName } from "../storage/store.ts"
import type { Ownership } from "./ownership.ts"
import { acquire, clock, release } from "./ownership-scripts.ts"

export interface OwnershipOptions {
  /** This process, by a name that no other has, and that it does not keep over a restart. */
  readonly worker: string
  readonly leaseMs: number
  /** What all keys begin with. */
  readonly prefix: string
}

/** Leases that nobody prolongs are another worker's after this time. */
export const leaseMsDefault = 4_000

/** P21: beyond this the clocks of workers would tell different times for one partition. */
const clockMsMax = 500
/** A lease is prolonged this often while it lasts. */
const roundsPerLease = 3
const looksPerLease = 24
const releaseMsMax = 1_000

export const makeRedisOwnership = Effect.fnUntraced(function* (link: RedisLink, tenures: RedisTenures, options: OwnershipOptions) {
  yield* Effect.forkScoped(keepLeases(tenures, options))
  return {
    acquire: (id) =>
      Effect.gen(function* () {
        const scope = yield* Effect.scope
        const taken = Effect.onError(takeOver(link, { ...options, id, scope }), () => unclaim(tenures, id))
        const tenure = yield* Effect.acquireRelease(Effect.andThen(claim(tenures, id), taken), (taken, exit) =>
          Effect.ensuring(giveBack(taken, exit, tenures), unclaim(tenures, id))
        )
        tenures.begin(tenure)
        return tenure.owner
      }),
    lost: (owner) =>
      Effect.suspend(() => {
        const tenure = tenures.find(owner)
        return tenure?.owner.token === owner.token ? tenure.lost : Effect.void
      }),
    confirm: (owner) =>
      Effect.suspend(() => {
        const tenure = tenures.find(owner)
        return tenure?.owner.token === owner.token ? tenure.witness() : Effect.fail(held(owner, "it was given up"))
      })
  } satisfies Ownership["Service"]
})

const claim = (tenures: RedisTenures, id: JournalId): Effect.Effect<void, KeyfoldError> =>
  Effect.suspend(() => (tenures.claim(id) ? Effect.void : Effect.fail(held(id, "this process has it already"))))

const unclaim = (tenures: RedisTenures, id: JournalId): Effect.Effect<void> => Effect.sync(() => tenures.unclaim(id))

// ---- take-over (P1)

interface TakeOver extends OwnershipOptions {
  readonly id: JournalId
  readonly scope: Scope.Scope
}

const takeOver = Effect.fnUntraced(function* (link: RedisLink, { id, worker, leaseMs, prefix, scope }: TakeOver) {
  const keys = journalKeys(prefix, id)
  yield* checkClock(link, keys, id)
  const nonce = yield* freshNonce
  const sentMs = yield* monotonicMs
  const reply = yield* link.script(acquire, keys.all, [nonce, worker, String(leaseMs), String(journalFormat)])
  const [answer = "", ...parts] = replyParts(reply).map(replyText)
  if (answer !== "OK") return yield* Effect.fail(refusal(id, answer, parts))
  const [epoch, rev, revision, snapshot, confirmed, outbox] = parts.map(Number) as [number, number, number, number, number, number]
  const [fingerprint, progress] = parts.slice(6)
  const meta = { revision, snapshot, confirmed, outbox, fingerprint: fingerprint || undefined, progress: progress || undefined }
  const { query, stage, partition } = id
  const owner = { query, stage, partition, epoch, token: `${epoch}.${nonce}` }
  return new RedisTenure({ link, owner, keys, meta, leaseMs, rev, sentMs, scope })
})

/** Redis' clock was read at some moment between the question and its answer. */
const checkClock = Effect.fnUntraced(function* (link: RedisLink, keys: JournalKeys, id: JournalId) {
  const askedMs = yield* Clock.currentTimeMillis
  const [seconds, micros] = replyParts(yield* link.script(clock, keys.all, [])).map((part) => Number(replyText(part))) as [number, number]
  const answeredMs = yield* Clock.currentTimeMillis
  const redisMs = seconds * 1_000 + micros / 1_000
  const differenceMs = redisMs < askedMs ? redisMs - askedMs : Math.max(0, redisMs - answeredMs)
  if (Math.abs(differenceMs) > clockMsMax) return yield* Effect.fail(clockDiffers(id, Math.round(differenceMs)))
})

/** 128 bits: the token of a restored Redis must not come again. */
const freshNonce = randomName(128)

const refusal = (id: JournalId, answer: string, parts: readonly string[]): KeyfoldError => {
  const [first, second] = parts
  switch (answer) {
    case "HELD":
      return held(id, `the worker ${first} has it, and its lease still runs for ${second} ms`)
    case "NEWER":
      return new KeyfoldError(
        "format-newer",
        `the journal ${journalName(id)} was written by a newer keyfold (format ${first}, this one knows ${journalFormat}): use that one; nothing was changed`
      )
    case "TYPE":
      return new KeyfoldError(
        "directory-damaged",
        `the key ${first} in Redis is a ${second}, so it is none of keyfold's: remove it, or use another query name; nothing was changed`
      )
    case "TORN":
      return new KeyfoldError(
        "directory-damaged",
        `Redis has ${first} but not the key :meta that belongs to it: it was evicted or removed. Restore a backup, or remove all keys of the journal ${journalName(id)} to begin anew; nothing was changed`
      )
    default:
      throw new InvariantError(`P1: an acquisition was answered with ${answer}`)
  }
}

const held = (id: JournalId, how: string): KeyfoldError =>
  new KeyfoldError("fenced", `the journal ${journalName(id)} cannot be taken over yet: ${how}. It is tried again`)

const clockDiffers = (id: JournalId, differenceMs: number): KeyfoldError =>
  new KeyfoldError(
    "fenced",
    `the journal ${journalName(id)} is not taken over: the clock of Redis is ${Math.abs(differenceMs)} ms ${differenceMs < 0 ? "behind" : "ahead of"} the one here, ` +
      `more than ${clockMsMax} ms. Synchronise the clocks (NTP)`
  )

// ---- while it is owned (L5)

const keepLeases = Effect.fnUntraced(function* (tenures: RedisTenures, { leaseMs }: OwnershipOptions) {
  const asked = new Set<RedisTenure>()
  for (;;) {
    const nowMs = yield* monotonicMs
    for (const tenure of tenures.all()) {
      if (nowMs >= tenure.leaseEndMs) tenure.lose()
      const isDue = tenure.leaseEndMs - nowMs < leaseMs * (1 - marginPart - 1 / roundsPerLease)
      if (tenure.isOver || !isDue || asked.has(tenure)) continue
      asked.add(tenure)
      const renewal = Effect.ensuring(
        Effect.ignore(tenure.witness()),
        Effect.sync(() => asked.delete(tenure))
      )
      yield* Effect.forkChild(renewal)
    }
    yield* Effect.sleep(leaseMs / looksPerLease)
  }
})

// ---- its end (L4)

/** With anything in doubt the lease is left to run out. */
const giveBack = Effect.fnUntraced(function* (tenure: RedisTenure, exit: Exit.Exit<unknown, unknown>, tenures: RedisTenures) {
  tenures.end(tenure)
  const released = Effect.suspend(() => tenure.link.script(release, tenure.keys.all, [tenure.owner.token, String(tenure.rev)]))
  // What stands behind it in line is refused here: a write would take a lease that nobody prolongs.
  const giving = tenure.inLine(
    Effect.ensuring(
      released,
      Effect.sync(() => tenure.lose())
    )
  )
  if (Exit.isSuccess(exit) && !tenure.isOver) yield* Effect.ignore(Effect.timeoutOption(Effect.interruptible(giving), releaseMsMax))
  tenure.lose()
})
