/** The ports of a query on servers, over connections that somebody else has made: to real servers, or to simulated ones. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { makeRedisJournal } from "../journal/redis.ts"
import type { Limits } from "../options.ts"
import { makeRedisMembership } from "../partition/membership-redis.ts"
import { makeRedisOwnership } from "../partition/ownership-redis.ts"
import type { Ports, TopicPorts } from "../ports.ts"
import type { RedisLink } from "../storage/redis-link.ts"
import { RedisTenures } from "../storage/redis-tenure.ts"

export interface ClusteredParts {
  readonly topics: TopicPorts
  readonly link: RedisLink
  readonly limits: Limits
  /** This process, by a name that no other has, and that it does not keep over a restart (P1). */
  readonly worker: string
  readonly leaseMs: number
}

export const clusteredPorts = Effect.fnUntraced(function* (parts: ClusteredParts): Effect.fn.Return<Ports, never, Scope.Scope> {
  const { topics, link, limits, worker, leaseMs } = parts
  const tenures = new RedisTenures()
  return {
    ...topics,
    ownership: yield* makeRedisOwnership(link, tenures, { worker, leaseMs, prefix: "kf" }),
    journal: makeRedisJournal(tenures, limits),
    membership: makeRedisMembership(link, { leaseMs }),
    messagingSystem: "nats",
    historyKeptMs: limits.historyKeptMs,
    foreignStreams: true,
    isPassing: ({ code }) => passing.has(code)
  }
})

/** Another owner, or a server that is away or full: the partition is taken over again, from the journal (P11). */
const passing: ReadonlySet<string> = new Set(["fenced", "unreachable", "storage-full"])
