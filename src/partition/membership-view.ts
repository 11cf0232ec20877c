/** What a member knows of its query: who is there, who owns what, whose each partition is therefore, and the last word on each. */
import { type Assignment, assign, partitionName, type StagePartition } from "./assignment.ts"
import type { PartitionNews } from "./membership.ts"
import { newsOf } from "./news-text.ts"

/** What has been said of a partition; `fresh` as in the port. */
export interface Word {
  readonly news: PartitionNews
  readonly fresh: boolean
}

/** An answer of the servers': everything, or what has changed since the last one. */
export interface Answer {
  readonly isWhole: boolean
  readonly revision: string
  readonly members: readonly string[]
  readonly entries: readonly Entry[]
}

export interface Entry {
  readonly kind: "owner" | "news"
  readonly partition: string
  readonly revision: number
  /** The member, "" for none; or the text of the news. */
  readonly value: string
}

export class MembershipView {
  readonly #partitions: readonly StagePartition[]
  readonly #names: ReadonlySet<string>
  readonly #words = new Map<string, Map<number, Word>>()
  /** The last words on what we were deaf to, by name. */
  readonly #unheard = new Map<string, Word>()
  #members: ReadonlySet<string> = new Set()
  #owners = new Map<string, string>()
  #assignment: Assignment = new Map()
  /** What is said later is fresh. */
  #joinedAt = Number.POSITIVE_INFINITY
  #revision = "0"

  constructor(partitions: readonly StagePartition[]) {
    this.#partitions = partitions
    this.#names = new Set(partitions.map(partitionName))
    for (const { stage } of partitions) this.#words.set(stage, new Map())
  }

  /** Of the last answer. */
  get revision(): string {
    return this.#revision
  }

  get members(): ReadonlySet<string> {
    return this.#members
  }

  /** Who should have a partition. */
  assigneeOf(name: string): string | undefined {
    return this.#assignment.get(name)
  }

  /** The member that owns a partition; one that is gone owns nothing. */
  ownerOf(name: string): string | undefined {
    const owner = this.#owners.get(name)
    return owner !== undefined && this.#members.has(owner) ? owner : undefined
  }

  /** All that a member says it owns. */
  ownedBy(member: string): readonly string[] {
    return [...this.#owners].flatMap(([name, owner]) => (owner === member ? [name] : []))
  }

  /** Whether a partition is on its way from or to a member. */
  isMoving(member: string): boolean {
    return [...this.#assignment].some(([name, assignee]) => {
      const owner = this.ownerOf(name)
      return owner !== assignee && (owner === member || assignee === member)
    })
  }

  /** By the number of the partition. */
  words(stage: string): ReadonlyMap<number, Word> {
    return this.#words.get(stage) ?? noWords
  }

  /** From now on others are heard of it: what was said last stands, ours or what another owner has said meanwhile. */
  letGo(of: StagePartition, ours: Word, member: string): void {
    const name = partitionName(of)
    const owner = this.ownerOf(name)
    const theirs = owner === undefined || owner === member ? undefined : this.#unheard.get(name)
    this.#hear(of, theirs ?? ours)
  }

  /** Others are not heard of it any more. */
  forget({ stage, partition }: StagePartition): void {
    this.#words.get(stage)?.delete(partition)
    this.#unheard.delete(partitionName({ stage, partition }))
  }

  /** Answers whether anything is new. News of partitions in `deaf` are not taken: who owns them knows better. */
  take(answer: Answer, deaf: ReadonlySet<string>): boolean {
    if (this.#joinedAt === Number.POSITIVE_INFINITY) this.#joinedAt = Number(answer.revision)
    this.#revision = answer.revision
    const isAssignmentNew = this.#takeOwners(answer)
    if (isAssignmentNew) {
      this.#assignment = assign({ members: [...this.#members], partitions: this.#partitions, owners: this.#owners })
    }
    let isNewsNew = false
    for (const entry of answer.entries) if (entry.kind === "news" && this.#takeNews(entry, deaf)) isNewsNew = true
    return isAssignmentNew || isNewsNew
  }

  #takeOwners({ isWhole, members, entries }: Answer): boolean {
    const owners = entries.filter(({ kind }) => kind === "owner")
    const isSame =
      !isWhole && owners.length === 0 && members.length === this.#members.size && members.every((one) => this.#members.has(one))
    if (isSame) return false
    this.#members = new Set(members)
    if (isWhole) this.#owners.clear()
    for (const { partition, value } of owners) {
      if (value === "") this.#owners.delete(partition)
      else this.#owners.set(partition, value)
    }
    return true
  }

  #takeNews({ partition: name, revision, value }: Entry, deaf: ReadonlySet<string>): boolean {
    const news = newsOf(value)
    if (news === undefined || !this.#names.has(name)) return false
    const word = { news, fresh: revision > this.#joinedAt }
    if (deaf.has(name)) {
      this.#unheard.set(name, word)
      return false
    }
    const slash = name.lastIndexOf("/")
    this.#hear({ stage: name.slice(0, slash), partition: Number(name.slice(slash + 1)) }, word)
    return true
  }

  #hear({ stage, partition }: StagePartition, word: Word): void {
    this.#words.get(stage)?.set(partition, word)
  }
}

const noWords: ReadonlyMap<number, Word> = new Map()
