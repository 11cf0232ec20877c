/**
 * The writes of a journal, each behind the fence of storage/redis-fence.ts (F): keys, the first four arguments, and the answers are its.
 * What the keys hold is in docs/journal-format.md.
 */
import { fencedScript } from "../storage/redis-fence.ts"

/**
 * P8: a turn. A full server refuses it before anything is written.
 *
 *   ARGV[5]   the turn's revision
 *   ARGV[6]   no turn up to this one has outputs that are not confirmed
 *   ARGV[7]   its entry in the log
 *   ARGV[8]   its entry in the outbox; "" for no outputs
 *   ARGV[9]   the fingerprint of the state codec; "" for the one that is known
 */
export const commit = fencedScript(
  "refuse",
  /* lua */ `
redis.call('XADD', KEYS[2], ARGV[5] .. '-0', 'e', ARGV[7])
if ARGV[8] ~= '' then
  redis.call('XADD', KEYS[3], ARGV[5] .. '-0', 'e', ARGV[8])
  redis.call('HSET', KEYS[1], 'outbox', ARGV[5])
end
if ARGV[9] ~= '' then redis.call('HSET', KEYS[1], 'fingerprint', ARGV[9]) end
redis.call('HSET', KEYS[1], 'head', ARGV[5], 'confirmed', ARGV[6])`
)

/**
 * P16: a confirmation that no commit has taken along.
 *
 *   ARGV[5]   no turn up to this one has outputs that are not confirmed
 */
export const confirm = fencedScript("allow", /* lua */ `redis.call('HSET', KEYS[1], 'confirmed', ARGV[5])`)

/**
 * P19: a part of a checkpoint: keys as committed turns have left them. Also on a full server: what the log has twice then goes with P20.
 *
 *   ARGV[5..] four lists, each after the count of its items: keys and their values, keys that are gone; times and keys of timeouts that are
 *             armed, keys of those that are not. Each list is short enough for Lua's stack.
 */
export const checkpointChunk = fencedScript(
  "allow",
  /* lua */ `
local at = 5
local function list(width, command, key)
  local last = at + tonumber(ARGV[at]) * width
  if last > at then redis.call(command, key, unpack(ARGV, at + 1, last)) end
  at = last + 1
end
list(2, 'HSET', KEYS[4])
list(1, 'HDEL', KEYS[4])
list(2, 'ZADD', KEYS[5])
list(1, 'ZREM', KEYS[5])`
)

/**
 * P20: the end of a checkpoint: state and timeouts have everything up to a turn, and the log forgets it.
 *
 *   ARGV[5]   the turn
 *   ARGV[6]   its progress
 *   ARGV[7]   no turn up to this one has outputs that are not confirmed
 *   ARGV[8]   the first turn whose entry the log keeps
 *   ARGV[9]   the first turn whose entry the outbox keeps
 */
export const checkpointEnd = fencedScript(
  "allow",
  /* lua */ `
redis.call('HSET', KEYS[1], 'snapshot', ARGV[5], 'progress', ARGV[6], 'confirmed', ARGV[7])
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[8] .. '-0')
redis.call('XTRIM', KEYS[3], 'MINID', ARGV[9] .. '-0')`
)
