// Processes that own journals in Redis, as the laws and the live tests play them: several in one test, each with its own memory and worker,
// which can crash, come back, or lose their connection.
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { KeyfoldError } from "../../src/errors.ts"
import type { Journal } from "../../src/journal/journal.ts"
import { makeRedisJournal } from "../../src/journal/redis.ts"
import type { JournalId, JournalOwner } from "../../src/model/turn.ts"
import type { Limits } from "../../src/options.ts"
import type { Ownership } from "../../src/partition/ownership.ts"
import { makeRedisOwnership } from "../../src/partition/ownership-redis.ts"
import { connectRedis, type RedisConnection } from "../../src/runtime/redis.ts"
import { redisSettings } from "../../src/runtime/redis-settings.ts"
import type { RedisArgument, RedisLink, RedisReply } from "../../src/storage/redis-link.ts"
import { RedisTenures } from "../../src/storage/redis-tenure.ts"
import { journalName } from "../../src/storage/store.ts"

export interface ProcessOptions {
  readonly worker?: string
  readonly prefix?: string
  readonly leaseMs?: number
  readonly limits?: Partial<Pick<Limits, "checkpointEveryMs" | "historyKeptMs">>
}

/** A link that says what went over it, and does what networks do. */
export class TestLink implements RedisLink {
  readonly #link: Pick<RedisLink, "name" | "script" | "command">
  readonly lastingScript: RedisLink["lastingScript"]
  /** Every call, newest last. */
  readonly calls: { readonly name: string; readonly args: readonly RedisArgument[] }[] = []
  /** Nothing gets through, in either direction. */
  isCut = false
  /** This many answers are lost: what was asked for was done. */
  answersLost = 0
  /** Called before each call; what it throws, the call fails with. */
  before: (name: string, args: readonly RedisArgument[]) => void = () => undefined

  constructor(link: Pick<RedisLink, "name" | "script" | "command">, lastingScript?: RedisLink["lastingScript"]) {
    this.#link = link
    this.lastingScript = lastingScript
  }

  get name(): string {
    return this.#link.name
  }

  script(lua: string, keys: readonly string[], args: readonly RedisArgument[]): Effect.Effect<RedisReply, KeyfoldError> {
    return this.#pass(lua, args, this.#link.script(lua, keys, args))
  }

  command(name: string, key: string, args: readonly RedisArgument[]): Effect.Effect<RedisReply, KeyfoldError> {
    return this.#pass(name, args, this.#link.command(name, key, args))
  }

  #pass(name: string, args: readonly RedisArgument[], call: Effect.Effect<RedisReply, KeyfoldError>) {
    return Effect.suspend(() => {
      this.calls.push({ name, args })
      if (this.isCut) return Effect.andThen(Effect.sleep(5), Effect.fail(lost))
      try {
        this.before(name, args)
      } catch (thrown) {
        if (thrown instanceof KeyfoldError) return Effect.fail(thrown)
        throw thrown
      }
      if (this.answersLost === 0) return call
      this.answersLost -= 1
      return Effect.andThen(call, Effect.fail(lost))
    })
  }
}

const lost = new KeyfoldError("unreachable", "the test has cut the connection")

/** A connection of its own; closed with the scope. */
export const connectTo = (url: string): Effect.Effect<RedisConnection, KeyfoldError, Scope.Scope> => connectRedis(redisSettings(url, {}))

export interface RedisProcess {
  readonly link: TestLink
  readonly tenures: RedisTenures
  readonly journal: Journal["Service"]
  readonly ownership: Ownership["Service"]
  /** It does and says nothing more; what it owned, it owns in Redis until its leases run out. */
  readonly crash: Effect.Effect<void>
}

let processes = 0

export const startProcess = Effect.fnUntraced(function* (
  connection: Pick<RedisLink, "name" | "script" | "command"> & Partial<RedisLink>,
  options: ProcessOptions = {}
): Effect.fn.Return<RedisProcess, never, Scope.Scope> {
  const { worker = `worker-${++processes}`, prefix = "kf", leaseMs = 4_000, limits } = options
  const link = new TestLink(connection, connection.lastingScript)
  const tenures = new RedisTenures()
  const own = yield* Scope.fork(yield* Effect.scope)
  const ownership = yield* Effect.provideService(makeRedisOwnership(link, tenures, { worker, leaseMs, prefix }), Scope.Scope, own)
  const journal = makeRedisJournal(tenures, { checkpointEveryMs: 5_000, historyKeptMs: 300_000, ...limits })
  const crash = Effect.andThen(
    Effect.sync(() => {
      link.isCut = true
      for (const tenure of tenures.all()) tenure.lose()
    }),
    Scope.close(own, Exit.void)
  )
  return { link, tenures, journal, ownership, crash }
})

/** The ports of a process that has come back under the same name: who owned a journal before it crashed takes it over when it is used. */
export const resumed = Effect.fnUntraced(function* (now: RedisProcess, before: ReadonlyMap<string, Resumable>) {
  const scope = yield* Effect.scope
  const known = new Map(before)
  const tokens = new Map<string, JournalOwner>()

  const ownerNow = Effect.fnUntraced(function* (of: JournalId) {
    const resumable = known.get(journalName(of))
    if (resumable === undefined || (of as Partial<JournalOwner>).token !== resumable.owner.token) {
      return tokens.get((of as Partial<JournalOwner>).token ?? "") ?? of
    }
    known.delete(journalName(of))
    const owner = yield* Effect.provideService(now.ownership.acquire(of), Scope.Scope, scope)
    tokens.set(resumable.owner.token, owner)
    yield* now.journal.open(owner, resumable.fingerprint)
    return owner
  })
  const journal: Journal["Service"] = {
    open: (owner, fingerprint) => Effect.flatMap(ownerNow(owner), (to) => now.journal.open(to as JournalOwner, fingerprint)),
    load: (id, keys) => Effect.flatMap(ownerNow(id), (to) => now.journal.load(to, keys)),
    due: (id, bound) => Effect.flatMap(ownerNow(id), (to) => now.journal.due(to, bound)),
    timeouts: (id) => Effect.flatMap(ownerNow(id), (to) => now.journal.timeouts(to)),
    commit: (owner, turn) => Effect.flatMap(ownerNow(owner), (to) => now.journal.commit(to as JournalOwner, turn)),
    confirm: (owner, revision) => Effect.flatMap(ownerNow(owner), (to) => now.journal.confirm(to as JournalOwner, revision)),
    keys: (id) => Effect.flatMap(ownerNow(id), (to) => now.journal.keys(to))
  }
  return journal
})

export interface Resumable {
  readonly owner: JournalOwner
  readonly fingerprint: string
}
