/** The scripts of leases (P1, P21). Keys and fence are those of storage/redis-fence.ts; what `meta` holds is in docs/journal-format.md. */
import { keyTypes, leaseFunction, shebang } from "../storage/redis-fence.ts"

/** Redis' clock, on the server that has the journal: {seconds, microseconds}. */
export const clock = /* lua */ `#!lua flags=no-writes
return redis.call('TIME')
`

/**
 * P1: gives a journal to its next owner, when the lease is free, has run out, or is this worker's own. From here on no older script succeeds.
 *
 *   KEYS      meta, log, outbox, state, timeouts
 *   ARGV[1]   a nonce of this take-over: it is sent again under the same one
 *   ARGV[2]   the worker
 *   ARGV[3]   ms that the lease lasts
 *   ARGV[4]   the version of the format that we know
 *   Returns   {"OK", epoch, rev, revision, snapshot, confirmed, outbox, fingerprint, progress}; "" for what is not there
 *             {"HELD", worker, ms}    another worker's lease, and how long it still runs
 *             {"NEWER", version}      written by a newer keyfold
 *             {"TYPE", key, type}     a key of another type than ours
 *             {"TORN", key}           a key without its meta
 *             Nothing is written with any but "OK".
 */
export const acquire = /* lua */ `${shebang("allow")}
${leaseFunction}
local types = {${keyTypes.map((type) => `'${type}'`).join(", ")}}
local found = {}
for i = 1, #KEYS do
  found[i] = redis.call('TYPE', KEYS[i])['ok']
  if found[i] ~= 'none' and found[i] ~= types[i] then return {'TYPE', KEYS[i], found[i]} end
end
for i = 2, #KEYS do
  if found[1] == 'none' and found[i] ~= 'none' then return {'TORN', KEYS[i]} end
end

local format, token, worker, ends, epoch, rev = unpack(redis.call('HMGET', KEYS[1], 'format', 'token', 'worker', 'lease', 'epoch', 'rev'))
if format and tonumber(format) > tonumber(ARGV[4]) then return {'NEWER', format} end
epoch, rev = epoch or '0', rev or '0'
if token ~= epoch .. '.' .. ARGV[1] then
  local left = (tonumber(ends) or 0) - tonumber(lease(0))
  if left > 0 and worker ~= ARGV[2] then return {'HELD', worker, string.format('%.0f', left)} end
  epoch, rev = string.format('%.0f', epoch + 1), string.format('%.0f', rev + 1)
end
redis.call('HSET', KEYS[1], 'format', ARGV[4], 'token', epoch .. '.' .. ARGV[1], 'worker', ARGV[2], 'epoch', epoch, 'rev', rev,
  'op', '', 'lease', lease(ARGV[3]))
local rest = redis.call('HMGET', KEYS[1], 'head', 'snapshot', 'confirmed', 'outbox', 'fingerprint', 'progress')
return {'OK', epoch, rev, rest[1] or '', rest[2] or '', rest[3] or '', rest[4] or '', rest[5] or '', rest[6] or ''}
`

/**
 * Gives a journal back (P21). The revision must be ours too: with anything in doubt the lease runs out by itself.
 *
 *   KEYS      meta, log, outbox, state, timeouts
 *   ARGV[1]   our token
 *   ARGV[2]   the revision that we know
 *   Returns   "OK", "FENCED" or "MOVED"
 */
export const release = /* lua */ `${shebang("allow")}
local fence = redis.call('HMGET', KEYS[1], 'token', 'rev')
if fence[1] ~= ARGV[1] then return 'FENCED' end
if fence[2] ~= ARGV[2] then return 'MOVED' end
redis.call('HSET', KEYS[1], 'lease', '0', 'worker', '', 'token', '')
return 'OK'
`
