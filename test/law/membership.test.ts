// Goal: every membership adapter keeps the laws of its port (src/partition/membership.ts), with members that come, go, die and come back.
// Method: on each Redis at hand, and on a simulated one (places.ts), several members in this process, and a worker behind each that does what
// seats do (workers-at-seats.ts). Waits are for conditions, with generous bounds. Another simulation with SEED=<n>.
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { InvariantError, type KeyfoldError } from "../../src/errors.ts"
import type { JournalId } from "../../src/model/turn.ts"
import { alone } from "../../src/partition/alone.ts"
import type { Member } from "../../src/partition/membership.ts"
import { makeRedisMembership } from "../../src/partition/membership-redis.ts"
import { memberKeys, speak } from "../../src/partition/membership-scripts.ts"
import type { SimulatedCluster } from "../../src/simulation/cluster.ts"
import { monotonicMs } from "../../src/storage/monotonic.ts"
import { replyParts, replyText } from "../../src/storage/redis-link.ts"
import { redisAnswer } from "../servers/redis-answer.ts"
import { type RedisCluster, startRedisCluster } from "../servers/redis-cluster.ts"
import { startRedis } from "../servers/redis-server.ts"
import type { Server } from "../servers/server.ts"
import { canStart, redisVersions } from "../servers/versions.ts"
import { type Host, type Place, realHost, realPlace, simulatedHost, simulatedPlace, simulatedSite } from "./places.ts"
import { inSimulation, seed } from "./simulated-store.ts"
import { eventually, leaseMs, newsAt, Team, type WatchedLink, type Worker } from "./workers-at-seats.ts"

describe("alone membership", () => {
  const partitions: readonly JournalId[] = [0, 1, 2].map((partition) => ({ query: "q", stage: "a", partition }))
  const joined = <A>(look: (member: Member) => Effect.Effect<A>): Promise<A> =>
    Effect.runPromise(Effect.scoped(Effect.flatMap(alone.join("q", partitions), look)))

  test("alone membership: M2 every partition is ours, whatever is said of it", async () => {
    const ours = await joined((member) => {
      for (const partition of partitions) member.post(partition, newsAt(1))
      for (const partition of partitions) member.gone(partition)
      return Effect.succeed(partitions.map((partition) => member.isOurs(partition)))
    })
    expect(ours).toEqual([true, true, true])
  })

  test("alone membership: M4, M5 nothing ever changes, and there is no news", async () => {
    const changed = await joined((member) => {
      for (const partition of partitions) member.post(partition, newsAt(1))
      expect(member.news("a").size).toBe(0)
      return Effect.timeoutOption(member.changed, 50)
    })
    expect(changed._tag).toBe("None")
  })
})

type Law = (place: Place) => Effect.Effect<void, KeyfoldError, Scope.Scope>

type Heard = Record<number, readonly [position: number | undefined, phase: string, fresh: boolean]>

/** What a member has heard of the partitions of a stage. */
const heardBy = ({ member }: { readonly member: Member }, stage: string): Heard =>
  Object.fromEntries(
    [...member.news(stage)].map(([partition, { news, fresh }]) => [partition, [news.positions[0], news.phase, fresh] as const])
  )

const sorted = (sizes: readonly number[]): readonly number[] => sizes.toSorted((left, right) => left - right)

const rounds = (link: WatchedLink, count: number): Effect.Effect<void> => {
  const { answers } = link
  return eventually(`${count} rounds are over`, () => link.answers >= answers + count)
}

/** A worker of its own that joins, says something of partitions, and leaves. */
const said = (place: Place, words: (member: Member, team: Team) => void): Effect.Effect<void, KeyfoldError> =>
  Effect.scoped(
    Effect.gen(function* () {
      const team = new Team(place)
      const { member } = yield* team.join()
      words(member, team)
    })
  )

const laws: Readonly<Record<string, Law>> = {
  "M2 who is the only member has everything as soon as it has joined": Effect.fnUntraced(function* (place) {
    const team = new Team(place)
    const { member } = yield* team.join()
    expect(team.partitions.filter((partition) => !member.isOurs(partition))).toEqual([])
  }),

  "M2 members that come share everything out evenly, and nothing moves without need": Effect.fnUntraced(function* (place) {
    const team = new Team(place)
    const first = yield* team.enter()
    yield* team.settled()
    const second = yield* team.enter()
    yield* team.settled()
    expect(team.sizes).toEqual([6, 6])
    const third = yield* team.enter()
    yield* team.settled()
    expect(team.sizes).toEqual([4, 4, 4])
    // What stays is not given back and taken again.
    expect([first.given.length, second.given.length, third.given.length]).toEqual([8, 2, 0])
    expect([first.taken.length, second.taken.length, third.taken.length]).toEqual([12, 6, 4])
  }),

  "M2 many that come at once share everything out evenly": Effect.fnUntraced(function* (place) {
    const team = new Team(place)
    yield* Effect.all(
      Array.from({ length: 5 }, () => team.enter()),
      { concurrency: "unbounded" }
    )
    yield* team.settled()
    expect(sorted(team.sizes)).toEqual([2, 2, 2, 3, 3])
  }),

  "M2 more members than partitions: some have nothing, and wait": Effect.fnUntraced(function* (place) {
    const team = new Team({ ...place, counts: { a: 2 } })
    for (let count = 0; count < 4; count++) yield* team.enter()
    yield* team.settled()
    expect(sorted(team.sizes)).toEqual([0, 0, 1, 1])
  }),

  "M2 a partition changes hands in two steps: it is the other's when its owner has given it up": Effect.fnUntraced(function* (place) {
    const team = new Team({ ...place, counts: { a: 2 } })
    const [first, second] = [yield* team.join(), yield* team.join()]
    for (const partition of team.partitions) first.member.post(partition, newsAt(0))
    yield* rounds(first.link, 2)
    yield* rounds(second.link, 2)
    const moving = team.partitions.filter((partition) => !first.member.isOurs(partition))
    expect(moving).toHaveLength(1)
    expect(team.partitions.filter((partition) => second.member.isOurs(partition))).toEqual([])
    for (const partition of moving) first.member.gone(partition)
    yield* eventually("it is the second's", () => moving.every((partition) => second.member.isOurs(partition)))
    expect(team.partitions.filter((partition) => first.member.isOurs(partition))).toHaveLength(1)
  }),

  "M3 who leaves is gone at once, long before its lease is over": Effect.fnUntraced(function* (place) {
    const team = new Team({ ...place, leaseMs: 600_000 })
    const [first, second] = [yield* team.enter(), yield* team.enter()]
    yield* team.settled()
    yield* second.leave()
    yield* team.settled()
    expect(first.held.size).toBe(12)
  }),

  "M3 who says nothing for a lease is gone, and not before; what the others have stays": Effect.fnUntraced(function* (place) {
    const site = yield* place.swallowingSite
    const team = new Team(place)
    const [first, second, third] = [yield* team.enter(), yield* team.enter(), yield* team.enter(site)]
    yield* team.settled()
    const given = [first.given.length, second.given.length]
    const cutMs = yield* monotonicMs
    third.isCutOff = true
    site.swallow(true)
    team.workers.pop()
    yield* eventually("the others know", () => [first, second].every(({ member }) => ours(team, member) === 6))
    // It spoke at most a quarter of a lease before.
    expect((yield* monotonicMs) - cutMs).toBeGreaterThan(0.7 * leaseMs)
    third.expire()
    yield* team.settled()
    expect(team.sizes).toEqual([6, 6])
    expect([first.given.length, second.given.length]).toEqual(given)
  }),

  "M3, M6 who was cut off keeps its last view, and comes back as another member": Effect.fnUntraced(function* (place) {
    const site = yield* place.swallowingSite
    const team = new Team(place)
    const [first, second] = [yield* team.enter(), yield* team.enter(site)]
    yield* team.settled()
    const members = yield* membersIn(place)
    second.isCutOff = true
    site.swallow(true)
    yield* eventually("the first has everything", () => ours(team, first.member) === 12)
    expect(ours(team, second.member)).toBe(6)
    second.expire()
    yield* eventually("the first has taken everything over", () => first.held.size === 12)
    site.swallow(false)
    second.isCutOff = false
    yield* team.settled()
    expect(team.sizes).toEqual([6, 6])
    const later = yield* membersIn(place)
    expect(later).toHaveLength(2)
    expect(later.filter((member) => members.includes(member))).toHaveLength(1)
  }),

  "M4 who waits is told of a member, of news, and of an end as soon as it is known": Effect.fnUntraced(function* (place) {
    const team = new Team({ ...place, counts: { a: 2 } })
    const first = yield* team.join()
    const isPrompt = Effect.fnUntraced(function* (
      what: string,
      act: Effect.Effect<unknown, KeyfoldError, Scope.Scope>,
      isKnown: () => boolean
    ) {
      let toldAt = Number.POSITIVE_INFINITY
      const wait = Effect.gen(function* () {
        while (!isKnown()) yield* first.member.changed
        toldAt = first.link.answers
      })
      const waiting = yield* Effect.forkChild(wait)
      yield* act
      yield* eventually(`${what} is known`, isKnown)
      const knownAt = first.link.answers
      yield* rounds(first.link, 1)
      expect(toldAt, what).toBe(knownAt)
      yield* Fiber.interrupt(waiting)
    })
    // Who looked just before a change is woken by a later round: three times in a row that would be none of these.
    for (let round = 0; round < 3; round++) {
      const scope = yield* Scope.make()
      let second = first
      const joining = Effect.map(Scope.provide(team.join(), scope), (joined) => {
        second = joined
      })
      yield* isPrompt("a member", joining, () => ours(team, first.member) === 1)
      const partition = team.partitions.find((one) => !first.member.isOurs(one)) as JournalId
      const posting = Effect.sync(() => second.member.post(partition, newsAt(77 + round)))
      yield* isPrompt("news", posting, () => heardBy(first, "a")[partition.partition]?.[0] === 77 + round)
      yield* isPrompt("an end", Scope.close(scope, Exit.void), () => ours(team, first.member) === 2)
    }
  }),

  "M4 a member that has nothing to say speaks rarely, and wakes nobody all the time": Effect.fnUntraced(function* (place) {
    const team = new Team(place)
    const first = yield* team.enter()
    yield* team.settled()
    let wakes = 0
    const count = Effect.sync(() => {
      wakes += 1
    })
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(first.member.changed, count)))
    yield* Effect.yieldNow
    const startMs = yield* monotonicMs
    yield* rounds(first.link, 10)
    expect((yield* monotonicMs) - startMs).toBeGreaterThan(9 * 350)
    expect(wakes).toBeGreaterThan(0)
    expect(wakes).toBeLessThanOrEqual(3)
  }),

  "M5 the others have the last news of a partition; who holds it has none": Effect.fnUntraced(function* (place) {
    const team = new Team({ ...place, counts: { a: 2 } })
    const [first, second] = [yield* team.join(), yield* team.join()]
    for (let position = 1; position <= 5; position++) first.member.post(team.partition("a", 0), newsAt(position))
    const own = { watermarkMs: 1_234.5, idle: true, shown: false }
    const outgoing = { watermarkMs: 99, idle: false, shown: true }
    second.member.post(team.partition("a", 1), { own, outgoing, positions: [9, 0, 3], phase: "rested" })
    yield* eventually("both have heard", () => heardBy(second, "a")[0]?.[0] === 5 && heardBy(first, "a")[1]?.[0] === 9)
    expect(heardBy(second, "a")).toEqual({ 0: [5, "reading", true] })
    expect([...first.member.news("a")]).toEqual([[1, { news: { own, outgoing, positions: [9, 0, 3], phase: "rested" }, fresh: true }]])
    expect(first.member.news("no such stage").size).toBe(0)
  }),

  "M5 who gives a partition up has its last word, until another speaks": Effect.fnUntraced(function* (place) {
    const team = new Team({ ...place, counts: { a: 1 } })
    const [first, second] = [yield* team.join(), yield* team.join()]
    const partition = team.partition("a", 0)
    first.member.post(partition, newsAt(7))
    expect(heardBy(first, "a")).toEqual({})
    first.member.gone(partition)
    expect(heardBy(first, "a")).toEqual({ 0: [7, "reading", true] })
    yield* eventually("the second has heard", () => heardBy(second, "a")[0]?.[0] === 7)
    second.member.post(partition, newsAt(8))
    yield* eventually("the first has heard", () => heardBy(first, "a")[0]?.[0] === 8)
    first.member.post(partition, newsAt(9))
    expect(heardBy(first, "a")).toEqual({})
  }),

  "M5 last words are heard though their speaker leaves in the same breath": Effect.fnUntraced(function* (place) {
    const team = new Team({ ...place, counts: { a: 1 } })
    const watcher = yield* team.join()
    yield* said(team.place, (member) => {
      member.post(team.partition("a", 0), newsAt(41, "closed"))
      member.gone(team.partition("a", 0))
    })
    yield* eventually("the watcher has heard", () => heardBy(watcher, "a")[0]?.[1] === "closed")
    expect(heardBy(watcher, "a")).toEqual({ 0: [41, "closed", true] })
  }),

  "M5 the last word of a partition that nobody speaks for stays, and is not fresh for who comes later": Effect.fnUntraced(
    function* (place) {
      const team = new Team({ ...place, counts: { a: 3 } })
      yield* said(team.place, (member) => {
        for (const partition of team.partitions) member.post(partition, newsAt(partition.partition, "closed"))
      })
      const watcher = yield* team.join()
      expect(heardBy(watcher, "a")).toEqual({ 0: [0, "closed", false], 1: [1, "closed", false], 2: [2, "closed", false] })
      const other = yield* team.join()
      other.member.post(team.partition("a", 1), newsAt(5))
      yield* eventually("the watcher has heard", () => heardBy(watcher, "a")[1]?.[0] === 5)
      expect(heardBy(watcher, "a")).toEqual({ 0: [0, "closed", false], 1: [5, "reading", true], 2: [2, "closed", false] })
    }
  ),

  "M5 who is there tells a newcomer anew what it has said before: that is fresh": Effect.fnUntraced(function* (place) {
    const team = new Team({ ...place, counts: { a: 2 } })
    const first = yield* team.join()
    first.member.post(team.partition("a", 0), newsAt(3, "closed"))
    yield* rounds(first.link, 2)
    const second = yield* team.join()
    yield* eventually("the second has heard", () => heardBy(second, "a")[0]?.[2] === true)
    expect(heardBy(second, "a")).toEqual({ 0: [3, "closed", true] })
  }),

  "M5 whoever has taken a partition over has the last word, not who still believes to own it": Effect.fnUntraced(function* (place) {
    const team = new Team({ ...place, counts: { a: 1 } })
    const [zombie, owner, watcher] = [yield* team.join(), yield* team.join(), yield* team.join()]
    const partition = team.partition("a", 0)
    zombie.member.post(partition, newsAt(1))
    yield* eventually("the zombie is heard", () => heardBy(watcher, "a")[0]?.[0] === 1)
    owner.member.post(partition, newsAt(2))
    yield* eventually("the owner is heard", () => heardBy(watcher, "a")[0]?.[0] === 2)
    zombie.member.post(partition, newsAt(666))
    yield* rounds(zombie.link, 2)
    yield* rounds(watcher.link, 2)
    expect(heardBy(watcher, "a")).toEqual({ 0: [2, "reading", true] })
    expect([zombie, watcher].filter(({ member }) => member.isOurs(partition))).toEqual([])
  }),

  "M5 news of another version that cannot be read are no news": Effect.fnUntraced(function* (place) {
    const team = new Team({ ...place, counts: { a: 4 } })
    yield* said(team.place, (member) => {
      for (const partition of team.partitions) member.post(partition, newsAt(1))
    })
    const news = memberKeys(place.query)[2] as string
    for (const [index, text] of ["", "{}", '["opening",[0,0,1],[0,0,1],[1]]'].entries())
      yield* place.command("HSET", news, [`a/${index}`, text])
    expect(heardBy(yield* team.join(), "a")).toEqual({ 3: [1, "reading", false] })
  }),

  "M5 what has been heard does not travel again, of 1,024 partitions": Effect.fnUntraced(function* (place) {
    const team = new Team({ ...place, counts: { a: 1_024 } })
    const [first, second] = [yield* team.enter(), yield* team.enter()]
    yield* team.settled()
    expect(team.sizes).toEqual([512, 512])
    yield* rounds(first.link, 2)
    const { entries } = second.link
    const entriesOfFirst = first.link.entries
    yield* rounds(second.link, 3)
    expect(second.link.entries).toBe(entries)
    const partition = team.partitions.find((one) => first.member.isOurs(one)) as JournalId
    first.member.post(partition, newsAt(5))
    yield* eventually("the second has heard", () => heardBy(second, "a")[partition.partition]?.[0] === 5)
    yield* rounds(second.link, 2)
    expect(second.link.entries).toBe(entries + 1)
    expect(first.link.entries).toBe(entriesOfFirst)
  }),

  "M5, M6 who was taken for dead takes nothing back, and hears nothing of itself": Effect.fnUntraced(function* (place) {
    const team = new Team({ ...place, counts: { a: 2 } })
    const first = yield* team.join()
    const [a0, a1] = [team.partition("a", 0), team.partition("a", 1)]
    for (const partition of [a0, a1]) first.member.post(partition, newsAt(1))
    yield* rounds(first.link, 2)
    const [id] = yield* membersIn(place)
    const second = yield* team.join()
    second.member.post(a0, newsAt(2))
    yield* eventually("the second is known to have it", () => !first.member.isOurs(a0))
    yield* place.command("HDEL", memberKeys(place.query)[0] as string, [id as string])
    yield* rounds(first.link, 3)
    yield* rounds(second.link, 2)
    expect([a0, a1].map((partition) => [first.member.isOurs(partition), second.member.isOurs(partition)])).toEqual([
      [false, true],
      [true, false]
    ])
    expect(heardBy(first, "a")).toEqual({})
    expect(yield* membersIn(place)).not.toContain(id)
  }),

  "M5 who lets go late of what another has taken over hears that one's last word": Effect.fnUntraced(function* (place) {
    const team = new Team({ ...place, counts: { a: 2 } })
    const first = yield* team.join()
    const a0 = team.partition("a", 0)
    first.member.post(a0, newsAt(1))
    yield* rounds(first.link, 2)
    const [id] = yield* membersIn(place)
    const second = yield* team.join()
    second.member.post(a0, newsAt(2))
    yield* eventually("the second is known to have it", () => !first.member.isOurs(a0))
    yield* place.command("HDEL", memberKeys(place.query)[0] as string, [id as string])
    yield* rounds(first.link, 3)
    yield* rounds(second.link, 2)
    // The second has said all that it has to say.
    first.member.gone(a0)
    yield* eventually("the first has heard the second's word", () => heardBy(first, "a")[0]?.[0] === 2)
    yield* rounds(first.link, 2)
    expect(heardBy(first, "a")[0]?.[0]).toBe(2)
  }),

  // Symptom: processAllAvailable waited for ever (simulator). Cause: what the owner said in that moment was dropped, and taken for said.
  "M5 who takes a partition and loses it at once does not silence who has it": Effect.fnUntraced(function* (place) {
    const team = new Team({ ...place, counts: { a: 2 } })
    const [first, second] = [yield* team.join(), yield* team.join()]
    const a0 = team.partition("a", 0)
    second.member.post(a0, newsAt(2))
    yield* eventually("the first has heard the second's word", () => heardBy(first, "a")[0]?.[0] === 2)
    first.member.post(a0, newsAt(1))
    first.member.gone(a0)
    expect(heardBy(first, "a")[0]?.[0]).toBe(1)
    yield* eventually("the first hears the owner's word again", () => heardBy(first, "a")[0]?.[0] === 2)
  }),

  "M5 who comes back claims nothing from the next owner for the sake of last words": Effect.fnUntraced(function* (place) {
    const team = new Team({ ...place, counts: { a: 2 } })
    const first = yield* team.join()
    const a0 = team.partition("a", 0)
    yield* rounds(first.link, 2)
    const [id] = yield* membersIn(place)
    const second = yield* team.join()
    second.member.post(a0, newsAt(2))
    yield* eventually("the second is known to have it", () => !first.member.isOurs(a0))
    yield* place.command("HDEL", memberKeys(place.query)[0] as string, [id as string])
    first.member.post(a0, newsAt(1))
    first.member.gone(a0)
    const before = first.link.calls.length
    yield* rounds(first.link, 4)
    const later = first.link.calls.slice(before)
    expect(later.map(([, mode]) => mode)).toContain("join")
    const [, ...since] = later.slice(later.findIndex(([, mode]) => mode === "join"))
    expect(since.filter((call) => Number(call[6]) > 0)).toEqual([])
    expect(heardBy(first, "a")[0]?.[0]).toBe(2)
  }),

  "M6 a call that runs late changes nothing (K2)": Effect.fnUntraced(function* (place) {
    const { connect } = yield* place.site
    const link = yield* connect
    const team = new Team(place)
    const first = yield* team.enter()
    yield* team.settled()
    const late = first.link.calls.find((call) => Number(call[6]) === 12)
    if (late === undefined) throw new Error("no call has claimed the 12 partitions")
    const second = yield* team.enter()
    yield* team.settled()
    const reply = yield* link.script(speak, memberKeys(place.query), late)
    expect(replyParts(reply).map(replyText)).toEqual(["late"])
    yield* rounds(second.link, 2)
    yield* team.settled()
    expect([first.given.length, second.given.length]).toEqual([6, 0])
  }),

  "M6 an answer that was lost is made up for": Effect.fnUntraced(function* (place) {
    const team = new Team({ ...place, counts: { a: 2 }, leaseMs: 60_000 })
    const [first, second] = [yield* team.join(), yield* team.join()]
    first.member.post(team.partition("a", 0), newsAt(1))
    yield* eventually("the second has heard", () => heardBy(second, "a")[0]?.[0] === 1)
    second.link.losesAnswers = true
    first.member.post(team.partition("a", 0), newsAt(2))
    yield* eventually("the answer that tells of it is lost", () => second.link.entriesLost > 0)
    yield* rounds(first.link, 2)
    second.link.losesAnswers = false
    yield* eventually("the second has heard", () => heardBy(second, "a")[0]?.[0] === 2)
  }),

  "M6 a Redis that has forgotten everything: everybody comes back, and nothing moves": Effect.fnUntraced(function* (place) {
    const team = new Team(place)
    const all = [yield* team.enter(), yield* team.enter()]
    yield* team.settled()
    // A history that no count of calls could be above afterwards.
    const [speaker] = all as [Worker, Worker]
    const spoken = team.partitions.filter((one) => speaker.member.isOurs(one))
    for (let position = 1; position <= 20; position++) {
      for (const partition of spoken) speaker.member.post(partition, newsAt(position, position % 2 === 0 ? "reading" : "read"))
      yield* rounds(speaker.link, 1)
    }
    const last = yield* team.enter()
    yield* team.settled()
    const moves = [...all, last].map(({ taken, given }) => [taken.length, given.length])
    const [workers, ...others] = memberKeys(place.query)
    yield* place.command("DEL", workers as string, others)
    yield* Effect.all([...all, last].map((worker) => rounds(worker.link, 3)))
    yield* team.settled()
    expect([...all, last].map(({ taken, given }) => [taken.length, given.length])).toEqual(moves)
    expect(yield* membersIn(place)).toHaveLength(3)
    const partition = team.partitions.find((one) => speaker.member.isOurs(one)) as JournalId
    speaker.member.post(partition, newsAt(99))
    yield* eventually("the last has heard", () => heardBy(last, partition.stage)[partition.partition]?.[0] === 99)
    expect(heardBy(last, partition.stage)[partition.partition]).toEqual([99, "reading", true])
  })
}

/** Simulated keys do not expire. */
const lawsOfExpiry: typeof laws = {
  "a query leaves nothing in Redis for longer than a day, and four keys until then": Effect.fnUntraced(function* (place) {
    const team = new Team(place)
    const first = yield* team.enter()
    yield* team.settled()
    const keys = memberKeys(place.query)
    expect(keys.every((key) => key.startsWith(`kf:{${place.query}}:`))).toBe(true)
    const ttls = Effect.all(keys.map((key) => Effect.map(place.command("PTTL", key, []), Number)))
    const day = 86_400_000
    for (const ttl of yield* ttls) expect(ttl > day / 2 - 60_000 && ttl <= day, String(ttl)).toBe(true)
    // Whoever works on it renews what is half over.
    for (const key of keys) yield* place.command("PEXPIRE", key, [String(day / 2 - 1)])
    yield* rounds(first.link, 2)
    for (const ttl of yield* ttls) expect(ttl, String(ttl)).toBeGreaterThan(day - 60_000)
    yield* first.leave()
    expect(yield* membersIn(place)).toEqual([])
    for (const ttl of yield* ttls) expect(ttl <= day && (ttl > 0 || ttl === -2), String(ttl)).toBe(true)
  })
}

test("a bug of ours reaches whoever waits for a change (R7)", async () => {
  let answers = 0
  const link = {
    script: () =>
      Effect.suspend(() => {
        answers += 1
        const joined = [Buffer.from("ok"), Buffer.from("all"), Buffer.from("1"), [], []]
        return answers === 1 ? Effect.succeed(joined) : Effect.die(new InvariantError("K4: a test"))
      })
  }
  const waiting = Effect.flatMap(makeRedisMembership(link, { leaseMs }).join("q", []), ({ changed }) => Effect.andThen(changed, changed))
  await expect(Effect.runPromise(Effect.scoped(waiting))).rejects.toThrow("K4: a test")
})

const ours = (team: Team, member: Member): number => team.partitions.filter((partition) => member.isOurs(partition)).length

const membersIn = ({ command, query }: Place): Effect.Effect<readonly string[], KeyfoldError> =>
  Effect.map(command("HKEYS", memberKeys(query)[0] as string, []), (reply) => replyParts(reply).map(replyText))

/** Laws that need a server of their own: it is ended and started again. */
const lawsOfOutages: Readonly<Record<string, (host: Host, place: Place) => Effect.Effect<void, KeyfoldError, Scope.Scope>>> = {
  "M6 while Redis is down for a moment, everybody keeps its last view, and nothing moves": Effect.fnUntraced(function* (host, place) {
    const team = new Team({ ...place, leaseMs: 60_000 })
    const all = [yield* team.enter(), yield* team.enter()]
    yield* team.settled()
    const moves = all.map(({ taken, given }) => [taken.length, given.length])
    yield* host.kill
    const calls = all.map(({ link }) => link.calls.length)
    yield* eventually("both have tried in vain", () => all.every(({ link }, index) => link.calls.length > (calls[index] as number) + 1))
    expect(all.map(({ member }) => ours(team, member))).toEqual([6, 6])
    yield* host.start
    yield* Effect.all(all.map((worker) => rounds(worker.link, 2)))
    yield* team.settled()
    expect(all.map(({ taken, given }) => [taken.length, given.length])).toEqual(moves)
  }),

  "M3, M6 Redis is down for longer than a lease: everybody comes back, and nothing moves": Effect.fnUntraced(function* (host, place) {
    const team = new Team({ ...place, leaseMs: 1_000 })
    const all = [yield* team.enter(), yield* team.enter(), yield* team.enter()]
    yield* team.settled()
    const moves = all.map(({ taken, given }) => [taken.length, given.length])
    yield* host.kill
    yield* Effect.sleep(1_500)
    yield* host.start
    yield* Effect.all(all.map((worker) => rounds(worker.link, 3)))
    yield* team.settled()
    expect(all.map(({ taken, given }) => [taken.length, given.length])).toEqual(moves)
  }),

  "M6 a Redis that comes back without its last seconds: all come to one view again": Effect.fnUntraced(function* (host, place) {
    const team = new Team({ ...place, leaseMs: 60_000 })
    const [first, second] = [yield* team.enter(), yield* team.enter()]
    yield* team.settled()
    const restore = yield* host.snapshot
    const third = yield* team.enter()
    yield* team.settled()
    yield* restore
    yield* Effect.all([first, second, third].map((worker) => rounds(worker.link, 3)))
    yield* team.settled()
    expect(team.sizes).toEqual([4, 4, 4])
  }),

  "M5, M6 what was said in seconds that Redis has lost is said again": Effect.fnUntraced(function* (host, place) {
    const team = new Team({ ...place, counts: { a: 2 }, leaseMs: 60_000 })
    const first = yield* team.enter()
    yield* team.settled()
    const restore = yield* host.snapshot
    for (const partition of team.partitions) first.member.post(partition, newsAt(12))
    yield* rounds(first.link, 2)
    yield* restore
    yield* rounds(first.link, 3)
    const watcher = yield* team.join()
    expect(heardBy(watcher, "a")).toEqual({ 0: [12, "reading", false], 1: [12, "reading", false] })
  })
}

/** What only a simulation can do to members that are all in one process. */
const lawsOfSimulations: Readonly<Record<string, (cluster: SimulatedCluster, place: Place) => ReturnType<Law>>> = {
  "M3, M6 who stands still for longer than a lease keeps its last view, and comes back as another member": Effect.fnUntraced(
    function* (cluster, place) {
      const team = new Team(place)
      const { machine, ...site } = simulatedSite(cluster.machine())
      const [first, second] = [yield* team.enter(), yield* team.enter(site)]
      yield* team.settled()
      const members = yield* membersIn(place)
      machine.process.pause()
      yield* eventually("the first has everything", () => ours(team, first.member) === 12)
      expect(ours(team, second.member)).toBe(6)
      second.expire()
      yield* eventually("the first has taken everything over", () => first.held.size === 12)
      machine.process.resume()
      yield* rounds(second.link, 2)
      yield* team.settled()
      expect(team.sizes).toEqual([6, 6])
      const later = yield* membersIn(place)
      expect(later).toHaveLength(2)
      expect(later.filter((member) => members.includes(member))).toHaveLength(1)
    }
  ),

  "M6 a Redis that loses its power as members come and go: all come to one view again": Effect.fnUntraced(function* (cluster, place) {
    // Whose leaving is lost comes back to life, for a lease.
    const team = new Team(place)
    let lost = 0
    for (let round = 0; round < 8; round++) {
      const leaving = round % 3 === 2 ? team.workers[0] : undefined
      if (leaving === undefined) yield* team.enter()
      else yield* leaving.leave()
      yield* Effect.sleep(yield* Random.nextIntBetween(0, 1_500))
      cluster.takeDown("redis")
      lost += cluster.redis.losePower()
      cluster.bringUp("redis")
    }
    expect(lost).toBeGreaterThan(0)
    yield* Effect.all(team.workers.map((worker) => rounds(worker.link, 3)))
    yield* team.settled()
    expect(sorted(team.sizes)).toEqual([3, 3, 3, 3])
  })
}

describe(`simulated redis membership (SEED=${seed})`, () => {
  const where = { query: "q", counts: { a: 8, b: 4 } }
  for (const [law, holds] of Object.entries(laws)) {
    test(`simulated redis membership: ${law}`, () => inSimulation((_, cluster) => holds(simulatedPlace(cluster, where))))
  }
  for (const [law, holds] of Object.entries(lawsOfOutages)) {
    test(`simulated redis membership: ${law}`, () =>
      inSimulation((_, cluster) => holds(simulatedHost(cluster), simulatedPlace(cluster, where))))
  }
  for (const [law, holds] of Object.entries(lawsOfSimulations)) {
    test(`simulated redis membership: ${law}`, () => inSimulation((_, cluster) => holds(cluster, simulatedPlace(cluster, where))))
  }
})

for (const version of redisVersions()) {
  // Most of their time they wait.
  describe.concurrent(`redis ${version} membership`, () => {
    const counts = { a: 8, b: 4 }
    let server: Server
    beforeAll(async () => {
      server = await startRedis({ version })
    })
    afterAll(() => server.stop())
    for (const [index, [law, holds]] of Object.entries({ ...laws, ...lawsOfExpiry }).entries()) {
      test(`redis ${version} membership: ${law}`, () =>
        Effect.runPromise(Effect.scoped(holds(realPlace(server.url, { query: `law-${process.pid}-${index}`, counts })))))
    }
    for (const [law, holds] of Object.entries(lawsOfOutages)) {
      test.runIf(canStart("redis"))(`redis ${version} membership: ${law}`, async () => {
        await using own = await startRedis({ version })
        await Effect.runPromise(Effect.scoped(holds(realHost(own), realPlace(own.url, { query: "q", counts }))))
      })
    }
  })
}

describe.runIf(canStart("redis"))("redis cluster membership", () => {
  const counts = { a: 8, b: 4 }
  let cluster: RedisCluster
  let url: string
  beforeAll(async () => {
    cluster = await startRedisCluster({ nodeTimeoutMs: 1_000 })
    url = `redis+cluster://${cluster.urls.map((one) => new URL(one).host).join(",")}`
  })
  afterAll(() => cluster.stop())
  const shared: readonly (keyof typeof laws)[] = [
    "M2 members that come share everything out evenly, and nothing moves without need",
    "M3 who leaves is gone at once, long before its lease is over",
    "M5 last words are heard though their speaker leaves in the same breath"
  ]
  for (const [index, law] of shared.entries()) {
    test(`redis cluster membership: ${law}`, () =>
      Effect.runPromise(Effect.scoped((laws[law] as Law)(realPlace(url, { query: `law-${index}`, counts })))))
  }

  test("redis cluster membership: M6 a primary dies and its replica takes over: everybody comes back, and nothing moves", async () => {
    const query = "failing-over"
    const withTheQuery = async (): Promise<readonly Server[]> => {
      const primaries = await cluster.primaries()
      const answers = await Promise.all(primaries.map(({ port }) => redisAnswer(port, `EXISTS ${memberKeys(query)[0]}`)))
      return primaries.filter((_, index) => answers[index]?.startsWith(":1"))
    }
    const holds = Effect.gen(function* () {
      const team = new Team({ ...realPlace(url, { query, counts }), leaseMs: 60_000 })
      const workers = [yield* team.enter(), yield* team.enter()]
      yield* team.settled()
      const moves = workers.map(({ taken, given }) => [taken.length, given.length])
      const [primary, ...others] = yield* Effect.promise(withTheQuery)
      expect(others).toEqual([])
      yield* Effect.promise(async () => primary?.kill())
      const answers = workers.map(({ link }) => link.answers)
      const calls = workers.map(({ link }) => link.calls.length)
      yield* eventually("calls are made", () => workers.every(({ link }, index) => link.calls.length > (calls[index] as number)))
      yield* eventually("they are answered", () => workers.every(({ link }, index) => link.answers > (answers[index] as number) + 3))
      yield* team.settled()
      expect(workers.map(({ taken, given }) => [taken.length, given.length])).toEqual(moves)
    })
    await Effect.runPromise(Effect.scoped(holds))
  })
})
