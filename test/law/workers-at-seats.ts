// Members of one query in one process, each over a connection of its own, and a worker behind each that does what seats do: takes what is its
// own, unless another still has it (as a lease would say), and gives back what is not.
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { KeyfoldError } from "../../src/errors.ts"
import type { JournalId } from "../../src/model/turn.ts"
import { partitionName } from "../../src/partition/assignment.ts"
import type { Member, PartitionNews, RunPhase } from "../../src/partition/membership.ts"
import { makeRedisMembership } from "../../src/partition/membership-redis.ts"
import { monotonicMs } from "../../src/storage/monotonic.ts"
import { type RedisArgument, type RedisLink, replyParts } from "../../src/storage/redis-link.ts"
import type { Counts, Place, Site } from "./places.ts"

export const leaseMs = 2_000

const partitionsOf = (query: string, counts: Counts): readonly JournalId[] =>
  Object.entries(counts).flatMap(([stage, count]) => Array.from({ length: count }, (_, partition) => ({ query, stage, partition })))

const clock = { watermarkMs: 0, idle: false, shown: true }

export const newsAt = (position: number, phase: RunPhase = "reading"): PartitionNews => ({
  own: clock,
  outgoing: clock,
  positions: [position],
  phase
})

export const eventually = (what: string, holds: () => boolean): Effect.Effect<void> =>
  Effect.gen(function* () {
    const endMs = (yield* monotonicMs) + 90_000
    while (!holds()) {
      if ((yield* monotonicMs) > endMs) throw new Error(`not within 90 s: ${what}`)
      yield* Effect.sleep(5)
    }
  })

type Link = Pick<RedisLink, "script">

/** A connection that tells what it has carried, and loses answers when it is asked to. */
export class WatchedLink {
  readonly #link: Link
  /** Calls run, and fail as if their connection had been lost then (K2). */
  losesAnswers = false
  /** The arguments of every call. */
  readonly calls: (readonly RedisArgument[])[] = []
  answers = 0
  /** Owners and news that answers have brought. */
  entries = 0
  entriesLost = 0

  constructor(link: Link) {
    this.#link = link
  }

  readonly script: Link["script"] = (lua, keys, args) => {
    this.calls.push(args)
    return Effect.tap(this.#link.script(lua, keys, args), (reply) =>
      Effect.suspend(() => {
        const entries = replyParts(replyParts(reply)[4]).length
        if (this.losesAnswers) {
          this.entriesLost += entries
          return Effect.fail(new KeyfoldError("unreachable", "an answer of Redis was lost: wait"))
        }
        this.answers += 1
        this.entries += entries
        return Effect.void
      })
    )
  }
}

export class Team {
  readonly place: Place
  readonly partitions: readonly JournalId[]
  readonly workers: Worker[] = []
  /** Who has which partition, as leases would say it. */
  readonly leases = new Map<string, Worker>()

  constructor(place: Place) {
    this.place = place
    this.partitions = partitionsOf(place.query, place.counts)
  }

  partition(stage: string, partition: number): JournalId {
    return { query: this.place.query, stage, partition }
  }

  /** A member with nobody behind it, until the scope closes. */
  readonly join = Effect.fnUntraced(function* (this: Team, at?: Site) {
    const { connect, here } = at ?? (yield* this.place.site)
    const link = new WatchedLink(yield* here(connect))
    const membership = makeRedisMembership(link, { leaseMs: this.place.leaseMs ?? leaseMs })
    return { link, member: yield* here(membership.join(this.place.query, this.partitions)) }
  })

  /** A member with a worker, until the scope closes, it leaves or dies. */
  readonly enter = Effect.fnUntraced(function* (this: Team, at?: Site) {
    const site = at ?? (yield* this.place.site)
    const scope = yield* Effect.acquireRelease(Scope.make(), (own) => Scope.close(own, Exit.void))
    const worker = new Worker(this, { scope, ...(yield* Scope.provide(this.join(site), scope)) })
    this.workers.push(worker)
    yield* site.here(Scope.provide(Effect.forkScoped(worker.work()), scope))
    return worker
  })

  /** Until everybody has had time to hear what everybody has said, and every partition is at the one whose it is. */
  readonly settled = Effect.fnUntraced(function* (this: Team) {
    let answers = this.#answers
    yield* eventually("every partition is at rest", () => {
      if (!this.#isSettled) answers = this.#answers
      return this.workers.every(({ link }) => link.answers >= (answers.get(link) ?? link.answers) + 2)
    })
  })

  /** How many partitions each worker has. */
  get sizes(): readonly number[] {
    return this.workers.map(({ held }) => held.size)
  }

  get #answers(): ReadonlyMap<WatchedLink, number> {
    return new Map(this.workers.map(({ link }) => [link, link.answers]))
  }

  get #isSettled(): boolean {
    return this.partitions.every((partition) => {
      const name = partitionName(partition)
      const [holder, ...others] = this.workers.filter(({ held }) => held.has(name))
      const [owner, ...rivals] = this.workers.filter(({ member }) => member.isOurs(partition))
      return others.length === 0 && rivals.length === 0 && holder !== undefined && holder === owner && this.leases.get(name) === holder
    })
  }
}

export class Worker {
  readonly link: WatchedLink
  readonly member: Member
  readonly held = new Set<string>()
  /** What it has taken and given back, in order. */
  readonly taken: string[] = []
  readonly given: string[] = []
  /** It cannot take anything, nor see what it has lost. */
  isCutOff = false
  readonly #team: Team
  readonly #scope: Scope.Closeable

  constructor(team: Team, parts: { readonly scope: Scope.Closeable; readonly link: WatchedLink; readonly member: Member }) {
    this.#team = team
    this.#scope = parts.scope
    this.link = parts.link
    this.member = parts.member
  }

  /** Looks only when membership says that something may have changed (M4), or again where another still has what is its own. */
  readonly work = Effect.fnUntraced(function* (this: Worker) {
    for (;;) {
      const mustRetry = this.#look()
      yield* mustRetry ? Effect.raceFirst(this.member.changed, Effect.sleep(50)) : this.member.changed
    }
  })

  /** Gives everything back and leaves. */
  leave(): Effect.Effect<void> {
    for (const partition of this.#team.partitions) if (this.held.has(partitionName(partition))) this.#give(partition)
    this.#team.workers.splice(this.#team.workers.indexOf(this), 1)
    return Scope.close(this.#scope, Exit.void)
  }

  /** Its leases run out, whatever it thinks. */
  expire(): void {
    for (const name of this.held) this.#team.leases.delete(name)
  }

  #look(): boolean {
    let mustRetry = false
    for (const partition of this.#team.partitions) {
      const name = partitionName(partition)
      const isOurs = this.member.isOurs(partition)
      const isLost = this.held.has(name) && this.#team.leases.get(name) !== this && !this.isCutOff
      if (this.held.has(name) && (isLost || !isOurs)) this.#give(partition)
      if (!isOurs || this.held.has(name)) continue
      if (this.isCutOff || this.#team.leases.has(name)) mustRetry = true
      else this.#take(partition)
    }
    return mustRetry
  }

  #take(partition: JournalId): void {
    const name = partitionName(partition)
    this.#team.leases.set(name, this)
    this.held.add(name)
    this.taken.push(name)
    this.member.post(partition, newsAt(0))
  }

  #give(partition: JournalId): void {
    const name = partitionName(partition)
    if (this.#team.leases.get(name) === this) this.#team.leases.delete(name)
    this.held.delete(name)
    this.given.push(name)
    this.member.gone(partition)
  }
}
