/**
 * One partition's journal in Redis: its keys, and the fence (F) that every write to it passes. Whoever writes says under which token, which
 * revision it expects, and which write this is; so a write of an older owner, a write that was sent twice, and one that is based on what
 * Redis has lost meanwhile are all told apart, before anything is written.
 */
import type { JournalId } from "../model/turn.ts"

/** The keys of one journal, of one hash tag. */
export interface JournalKeys {
  readonly meta: string
  readonly log: string
  readonly outbox: string
  readonly state: string
  readonly timeouts: string
  /** All of them in this order: KEYS[1] to KEYS[5] of every script. */
  readonly all: readonly string[]
}

/** The version of what the keys hold (docs/journal-format.md). */
export const journalFormat = 1

/** What each key is: checked at take-over, because a script that fails in the middle is not rolled back. */
export const keyTypes = ["hash", "stream", "stream", "hash", "zset"] as const

export const journalKeys = (prefix: string, { query, stage, partition }: JournalId): JournalKeys => {
  const tag = `${prefix}:{${query}/${stage}/${partition}}`
  const [meta, log, outbox, state, timeouts] = [`${tag}:meta`, `${tag}:log`, `${tag}:outbox`, `${tag}:state`, `${tag}:timeouts`]
  return { meta, log, outbox, state, timeouts, all: [meta, log, outbox, state, timeouts] }
}

/** What a full server does with a script: it refuses it at its entry, or lets those run that are needed to get out of it. */
export type WhenFull = "refuse" | "allow"

export const shebang = (whenFull: WhenFull): string => (whenFull === "allow" ? "#!lua flags=allow-oom" : "#!lua")

/** Lua: `lease(ms)` is the end of a lease of so many ms from now on, by Redis' own clock. */
export const leaseFunction = /* lua */ `
local function lease(ms)
  local time = redis.call('TIME')
  return string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + ms)
end`

/**
 * A script behind the fence. `body` writes; its own arguments begin at ARGV[5].
 *
 *   KEYS      meta, log, outbox, state, timeouts
 *   ARGV[1]   our token
 *   ARGV[2]   the revision of the journal that we know
 *   ARGV[3]   this write: another one each time, the same when it is sent again
 *   ARGV[4]   ms that the lease lasts from now on
 *   Returns   "OK"        written; the revision is one more
 *             "ALREADY"   this very write was done before: nothing was written but the lease
 *             "FENCED"    another owner, or none: nothing was written
 *             "MOVED"     our token, but another revision: Redis has lost what it had answered. Nothing was written
 */
export const fencedScript = (whenFull: WhenFull, body: string): string => /* lua */ `${shebang(whenFull)}
${leaseFunction}
local fence = redis.call('HMGET', KEYS[1], 'token', 'rev', 'op')
if fence[1] ~= ARGV[1] then return 'FENCED' end
if fence[3] == ARGV[3] then
  redis.call('HSET', KEYS[1], 'lease', lease(ARGV[4]))
  return 'ALREADY'
end
if fence[2] ~= ARGV[2] then return 'MOVED' end
${body}
redis.call('HSET', KEYS[1], 'rev', string.format('%.0f', ARGV[2] + 1), 'op', ARGV[3], 'lease', lease(ARGV[4]))
return 'OK'
`

/**
 * Whether the journal is still ours, and has all that Redis has answered (P11). It prolongs the lease, and is no write in the sense of the
 * fence: the revision stays, so it may be asked at any time. As it writes, whoever waits for it to last waits for what was before it too (P9).
 *
 *   KEYS      meta, log, outbox, state, timeouts
 *   ARGV[1]   our token
 *   ARGV[2]   the revision that Redis has answered last, or an older one
 *   ARGV[3]   ms that the lease lasts from now on
 *   Returns   "OK", "FENCED", or "MOVED": Redis has lost what it had answered
 */
export const witness = /* lua */ `${shebang("allow")}
${leaseFunction}
local fence = redis.call('HMGET', KEYS[1], 'token', 'rev')
if fence[1] ~= ARGV[1] then return 'FENCED' end
if tonumber(fence[2]) < tonumber(ARGV[2]) then return 'MOVED' end
redis.call('HSET', KEYS[1], 'lease', lease(ARGV[3]))
return 'OK'
`
