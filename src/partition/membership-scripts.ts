/**
 * What members say to Redis, and what Redis answers: one script, called by every member of a query every few hundred milliseconds. All of
 * it is advice (M1): what is lost here costs a hand-over, never data.
 *
 * A query has four keys under one hash tag, gone a day after the last member spoke:
 *
 *   kf:{<query>}:workers   hash         member -> "<end of its lease> <revision it has seen> <number of its last call>"
 *   kf:{<query>}:owners    hash         partition -> member that says it owns it; its word counts while it is a member
 *   kf:{<query>}:news      hash         partition -> the last word on it
 *   kf:{<query>}:changes   sorted set   "o<partition>" and "n<partition>" by the revision of their last change; "" by the last revision
 *
 * A revision is Redis' clock in microseconds, or the last one + 1: a Redis that comes back without its last seconds gives none twice. Such a
 * Redis also has an older revision, or none, where the member remembers that it has answered: so the member gets everything anew.
 */

import { shebang } from "../storage/redis-fence.ts"
import { type RedisReply, replyParts, replyText } from "../storage/redis-link.ts"
import type { Answer, Entry } from "./membership-view.ts"

export const memberKeys = (query: string): readonly string[] =>
  ["workers", "owners", "news", "changes"].map((name) => `kf:{${query}}:${name}`)

/**
 *   KEYS      workers, owners, news, changes
 *   ARGV[1]   the member
 *   ARGV[2]   "join", "stay" or "leave"
 *   ARGV[3]   how long it counts as alive from now, ms
 *   ARGV[4]   the revision of the answer that it has seen last; "0" with "join"
 *   ARGV[5]   how long the keys stay from now, ms
 *   ARGV[6]   the number of this call among the member's
 *   ARGV[7..] three lists, each after the count of its items: the partitions that it has come to own, or with "join" still owns unless
 *             another member does; news of partitions, a partition and a text each, left aside where another owns it; the partitions
 *             that it has given up
 *   Returns   {"gone"}                                     nothing was written: it is not, or no longer, a member (M3)
 *             {"late"}                                     nothing was written: a later call has run before this one (K2)
 *             {"ok", what, revision, members, entries, owners, news, revisions}
 *                what: "all", or what has "changed" since ARGV[4] but for the news that it brought
 *                entries: each "o<partition>" or "n<partition>"; owners, "" for none, and news, in the same order;
 *                revisions, of all: that of each entry; of what has changed: none
 */
export const speak = /* lua */ `${shebang("allow")}
local id, mode, leaseMs, since, keptMs, call = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), ARGV[6]
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)

local members, alive, seen, lastCall = {}, {}, nil, 0
local workers = redis.call('HGETALL', KEYS[1])
for i = 1, #workers, 2 do
  local lease, revision, number = string.match(workers[i + 1], '^(%d+) (%d+) (%d+)$')
  if lease == nil or tonumber(lease) <= nowMs then
    redis.call('HDEL', KEYS[1], workers[i])
  elseif workers[i] == id then
    seen, lastCall = revision, tonumber(number)
  else
    members[#members + 1] = workers[i]
    alive[workers[i]] = true
  end
end
if mode ~= 'join' and seen == nil then return {'gone'} end
if tonumber(call) <= lastCall then return {'late'} end

local revision = redis.call('ZSCORE', KEYS[4], '') or '0'
if mode == 'join' or #ARGV > 9 then
  revision = string.format('%.0f', math.max(tonumber(revision) + 1, time[1] * 1000000 + time[2]))
  redis.call('ZADD', KEYS[4], revision, '')
end

local brought, at = {}, 7
local function each(width, act)
  local last = at + tonumber(ARGV[at]) * width
  for i = at + 1, last, width do act(ARGV[i], ARGV[i + 1]) end
  at = last + 1
end
each(1, function(partition)
  if mode == 'join' and alive[redis.call('HGET', KEYS[2], partition)] then return end
  redis.call('HSET', KEYS[2], partition, id)
  redis.call('ZADD', KEYS[4], revision, 'o' .. partition)
end)
each(2, function(partition, text)
  if redis.call('HGET', KEYS[2], partition) ~= id then return end
  redis.call('HSET', KEYS[3], partition, text)
  redis.call('ZADD', KEYS[4], revision, 'n' .. partition)
  brought['n' .. partition] = true
end)
each(1, function(partition)
  if redis.call('HGET', KEYS[2], partition) ~= id then return end
  redis.call('HDEL', KEYS[2], partition)
  redis.call('ZADD', KEYS[4], revision, 'o' .. partition)
end)

if mode == 'leave' then
  redis.call('HDEL', KEYS[1], id)
else
  redis.call('HSET', KEYS[1], id, string.format('%.0f %s %s', nowMs + leaseMs, revision, call))
  members[#members + 1] = id
end
for i = 1, #KEYS do
  if redis.call('PTTL', KEYS[i]) < keptMs / 2 then redis.call('PEXPIRE', KEYS[i], keptMs) end
end

local all = mode == 'join' or seen ~= since
local entries, revisions, partitions = {}, {}, {o = {}, n = {}}
local function tell(entry)
  if entry == '' then return end
  entries[#entries + 1] = entry
  local some = partitions[string.sub(entry, 1, 1)]
  some[#some + 1] = string.sub(entry, 2)
end
if all then
  local known = redis.call('ZRANGE', KEYS[4], 0, -1, 'WITHSCORES')
  for i = 1, #known, 2 do
    tell(known[i])
    if known[i] ~= '' then revisions[#revisions + 1] = known[i + 1] end
  end
else
  local changed = redis.call('ZRANGEBYSCORE', KEYS[4], '(' .. since, '+inf')
  for i = 1, #changed do
    if not brought[changed[i]] then tell(changed[i]) end
  end
end
local function values(key, fields)
  local found = {}
  for first = 1, #fields, 1000 do
    local some = redis.call('HMGET', key, unpack(fields, first, math.min(first + 999, #fields)))
    for i = 1, #some do found[#found + 1] = some[i] or '' end
  end
  return found
end
return {'ok', all and 'all' or 'changed', revision, members, entries, values(KEYS[2], partitions.o), values(KEYS[3], partitions.n),
  revisions}
`

/** What `speak` has returned. */
export const answerOf = (reply: RedisReply): Answer | "gone" | "late" => {
  const [word, what, revision, members, entries, owners, news, revisions] = replyParts(reply)
  const outcome = replyText(word)
  if (outcome === "gone" || outcome === "late") return outcome
  const isWhole = replyText(what) === "all"
  const values = { o: replyParts(owners).values(), n: replyParts(news).values() }
  const own = replyParts(revisions)
  return {
    isWhole,
    revision: replyText(revision),
    members: replyParts(members).map(replyText),
    entries: replyParts(entries).map((entry, index): Entry => {
      const name = replyText(entry)
      const kind = name.startsWith("o") ? "o" : "n"
      const value = replyText(values[kind].next().value)
      // What has changed is as new as the answer, for whoever asks whether it is fresh.
      const changedAt = Number(replyText(isWhole ? own[index] : revision))
      return { kind: kind === "o" ? "owner" : "news", partition: name.slice(1), revision: changedAt, value }
    })
  }
}
