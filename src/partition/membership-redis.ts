/**
 * Membership over Redis: each member speaks every few hundred milliseconds, in one script call a query, and hears what is new
 * (membership-scripts.ts has what is said). Owns one member's rounds and what it has to say; what it knows is membership-view.ts's.
 *
 * A partition changes hands in two steps. Its owner sees that it is another's and gives it up; for the other it becomes `isOurs` when the
 * owner has said so, or is gone.
 *
 *   joining ──answer──▶ member ──leaves──▶ gone
 *      ▲                  │ has said nothing for a lease (paused, cut off): Redis no longer knows it
 *      └──another id──────┘
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { randomName } from "../model/random-name.ts"
import type { JournalId } from "../model/turn.ts"
import type { RedisLink } from "../storage/redis-link.ts"
import { partitionName } from "./assignment.ts"
import type { Member, Membership, PartitionNews } from "./membership.ts"
import { answerOf, memberKeys, speak } from "./membership-scripts.ts"
import { type Answer, MembershipView } from "./membership-view.ts"
import { newsText } from "./news-text.ts"
import { Signal } from "./signal.ts"

export interface MembershipOptions {
  /** How long a member that says nothing counts as alive (M3). */
  readonly leaseMs: number
}

export const makeRedisMembership = (link: Pick<RedisLink, "script">, { leaseMs }: MembershipOptions): Membership["Service"] => ({
  join: Effect.fnUntraced(function* (query, partitions) {
    const member = new RedisMember({ link, query, partitions, leaseMs })
    yield* Effect.acquireRelease(member.enter(), () => member.leave())
    yield* Effect.forkScoped(member.keep())
    return member
  })
})

const roundMsEvery = 400
/** While partitions are on their way from or to this member. */
const roundMsEveryMoving = 100
/** What happens at once is said together. */
const gatherMs = 20
/** M4: who looked just before a change is woken by a later round. */
const roundsPerWake = 5
const leaveMsMax = 2_000
const keptMs = 86_400_000

interface MemberParts {
  readonly link: Pick<RedisLink, "script">
  readonly query: string
  readonly partitions: readonly JournalId[]
  readonly leaseMs: number
}

/** A partition from its first news until it is given up and its last words are said. */
interface Holding {
  readonly partition: JournalId
  readonly name: string
  news: PartitionNews
  /** The last that Redis has. */
  newsSaid: PartitionNews | undefined
  isClaimed: boolean
}

/** What one round says of partitions. */
interface Speech {
  readonly claims: readonly Holding[]
  readonly news: readonly (readonly [holding: Holding, news: PartitionNews])[]
  readonly given: readonly string[]
}

class RedisMember implements Member {
  readonly #parts: MemberParts
  readonly #view: MembershipView
  readonly #held = new Map<string, Holding>()
  readonly #parting = new Map<string, Holding>()
  readonly #heard = new Signal()
  readonly #urge = new Signal()
  #isUrgent = false
  #version = 0
  #calls = 0
  /** A law of ours that did not hold (R7): who waits for a change is told. */
  #bug: Cause.Cause<never> | undefined
  /** Under which the view knows it: of the last incarnation that was let in. */
  #id = ""
  /** Of the incarnation that wants to be let in; undefined for a member. */
  #nextId: string | undefined

  constructor(parts: MemberParts) {
    this.#parts = parts
    this.#view = new MembershipView(parts.partitions)
  }

  isOurs(partition: JournalId): boolean {
    const name = partitionName(partition)
    const owner = this.#view.ownerOf(name)
    return this.#view.assigneeOf(name) === this.#id && (owner === undefined || owner === this.#id)
  }

  get changed(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#bug !== undefined) return Effect.failCause(this.#bug)
      const version = this.#version
      return this.#heard.until(() => this.#version !== version)
    })
  }

  post(partition: JournalId, news: PartitionNews): void {
    const name = partitionName(partition)
    const holding = this.#held.get(name)
    if (holding?.news.phase !== news.phase) this.#hurry()
    if (holding !== undefined) {
      holding.news = news
      return
    }
    this.#held.set(name, { partition, name, news, newsSaid: undefined, isClaimed: false })
    this.#parting.delete(name)
    this.#view.forget(partition)
  }

  gone(partition: JournalId): void {
    const holding = this.#held.get(partitionName(partition))
    if (holding === undefined) return
    this.#held.delete(holding.name)
    this.#parting.set(holding.name, holding)
    this.#view.letGo(partition, { news: holding.news, fresh: true }, this.#id)
    this.#hurry()
  }

  news(stage: string): ReturnType<Member["news"]> {
    return this.#view.words(stage)
  }

  /** Becomes a member. An answer that was lost may have let it in: then the same incarnation tries again. */
  readonly enter = Effect.fnUntraced(function* (this: RedisMember) {
    this.#nextId ??= yield* freshId
    yield* this.#speak("join", this.#nextId)
  })

  /** For as long as it takes part. */
  keep(): Effect.Effect<void> {
    return Effect.catchCause(this.#rounds(), (cause) =>
      Effect.sync(() => {
        if (Cause.hasInterruptsOnly(cause)) return
        this.#bug = cause
        this.#wake()
      })
    )
  }

  /** Its last words. When Redis cannot be reached, silence says the same a little later (M3). */
  leave(): Effect.Effect<void> {
    return Effect.ignore(Effect.timeoutOption(this.#speak("leave", this.#id), leaveMsMax))
  }

  // ---- inside

  /** Redis that cannot be reached changes nothing that it knows (M6). */
  readonly #rounds = Effect.fnUntraced(function* (this: RedisMember) {
    for (let round = 1; ; round++) {
      yield* Effect.raceFirst(
        Effect.sleep(this.#pauseMs),
        this.#urge.until(() => this.#isUrgent)
      )
      if (this.#isUrgent) yield* Effect.sleep(gatherMs)
      yield* Effect.ignore(this.#nextId === undefined ? this.#speak("stay", this.#id) : this.enter())
      if (round % roundsPerWake === 0) this.#wake()
    }
  })

  get #pauseMs(): number {
    return Math.min(this.#view.isMoving(this.#id) ? roundMsEveryMoving : roundMsEvery, this.#parts.leaseMs / 4)
  }

  #isOthers(name: string): boolean {
    const owner = this.#view.ownerOf(name)
    return owner !== undefined && owner !== this.#id
  }

  #hurry(): void {
    this.#isUrgent = true
    this.#urge.fire()
  }

  #wake(): void {
    this.#version += 1
    this.#heard.fire()
  }

  readonly #speak = Effect.fnUntraced(function* (this: RedisMember, mode: "join" | "stay" | "leave", id: string) {
    const { link, query, leaseMs } = this.#parts
    const speech = this.#speech(mode === "join")
    this.#isUrgent = false
    this.#calls += 1
    const head = [id, mode, String(leaseMs), mode === "join" ? "0" : this.#view.revision, String(keptMs), String(this.#calls)]
    const answer = answerOf(yield* link.script(speak, memberKeys(query), [...head, ...wordsOf(speech)]))
    if (answer === "gone") {
      this.#nextId = yield* freshId
      this.#hurry()
    } else if (answer !== "late" && mode !== "leave") {
      // What was taken over while it was no member is claimed once more, whoever else does (#speech).
      if (mode === "stay") for (const holding of speech.claims) holding.isClaimed = true
      for (const [holding, said] of speech.news) holding.newsSaid = said
      this.#id = id
      this.#nextId = undefined
      this.#answered(answer)
    }
  })

  /**
   * A partition is claimed when it has been taken over, against whoever says the same, and later where nobody owns it any more. With a claim
   * goes what was said before: Redis takes no word of a partition from one who does not own it there.
   */
  #speech(isJoining: boolean): Speech {
    const holdings = [...this.#held.values(), ...this.#parting.values()]
    const given = new Set([...this.#parting.keys(), ...this.#view.ownedBy(this.#id)])
    const claims = holdings.filter(({ isClaimed, name }) => isJoining || !isClaimed || this.#view.ownerOf(name) === undefined)
    const said = new Set(holdings.filter((holding) => holding.news === holding.newsSaid && !claims.includes(holding)))
    return {
      claims,
      news: holdings.flatMap((holding) => (said.has(holding) ? [] : [[holding, holding.news] as const])),
      given: [...given].filter((name) => !this.#held.has(name))
    }
  }

  #answered(answer: Answer): void {
    // Who has just come, or has lost what it knew, takes nothing for said that was said before.
    const isRetold = answer.isWhole || answer.members.some((member) => member !== this.#id && !this.#view.members.has(member))
    if (isRetold) for (const holding of this.#held.values()) holding.newsSaid = undefined
    const said = [...this.#parting.values()].filter((holding) => holding.newsSaid === holding.news && holding.isClaimed)
    for (const { name } of said) this.#parting.delete(name)
    const isNew = this.#view.take(answer, new Set([...this.#held.keys(), ...this.#parting.keys()]))
    // What another has by now is not claimed from it for the sake of last words: its own are newer.
    const overtaken = [...this.#parting.values()].filter(({ name }) => this.#isOthers(name))
    for (const { name } of overtaken) this.#parting.delete(name)
    const parted = [...said, ...overtaken]
    for (const { partition, news } of parted) this.#view.letGo(partition, { news, fresh: true }, this.#id)
    if (isNew || parted.length > 0) this.#wake()
    // Redis has forgotten that it is ours.
    if ([...this.#held.keys()].some((name) => this.#view.ownerOf(name) === undefined)) this.#hurry()
  }
}

/** Three lists, each after the count of its items. */
const wordsOf = ({ claims, news, given }: Speech): readonly string[] => [
  String(claims.length),
  ...claims.map(({ name }) => name),
  String(news.length),
  ...news.flatMap(([{ name }, said]) => [name, newsText(said)]),
  String(given.length),
  ...given
]

const freshId = randomName(64)
