/**
 * Whose each partition of a query is: decided from what all members see alike, so that they agree without asking each other (M2). Pure; it
 * looks at no clock and draws no lots. Owns the decision; who may write is ownership's.
 *
 * A1. Every partition is some member's, if there is a member.
 * A2. Of each stage, and in total, no member has two more than another.
 * A3. Within A2 as many owners as possible keep what they have. An owner that is no member owns nothing.
 * A4. A hand-over under way does not change its aim: when some of what moves has been given up, or taken by whom it is for, the decision
 *     is what it was.
 * A5. Partitions of the same number in stages with equal counts share a member where A2 and A3 leave the choice.
 * A6. The order in which members, partitions and owners are listed does not matter.
 */
import { fnv1a32, mixed32 } from "../model/hash.ts"
import type { JournalId } from "../model/turn.ts"
import { sharesOf } from "./shares.ts"

/** A partition within its query. */
export type StagePartition = Pick<JournalId, "stage" | "partition">

export interface AssignmentView {
  readonly members: readonly string[]
  readonly partitions: readonly StagePartition[]
  /** The member that owns a partition now, by `partitionName`. */
  readonly owners: ReadonlyMap<string, string>
}

/** The member that a partition should be at, by `partitionName`. */
export type Assignment = ReadonlyMap<string, string>

export const partitionName = ({ stage, partition }: StagePartition): string => `${stage}/${partition}`

export const assign = (view: AssignmentView): Assignment => {
  const members = [...new Set(view.members)].toSorted()
  if (members.length === 0) return new Map()
  const stages = stagesOf(view, members)
  const shares = sharesOf({
    counts: stages.map(({ names }) => names.length),
    owned: members.map((_, member) => stages.map(({ owners }) => owners.filter((owner) => owner === member).length)),
    tie: (member, stage) => mixed32(fnv1a32(members[member] as string) ^ fnv1a32(stages[stage]?.name as string))
  })
  const hashes = members.map(fnv1a32)
  const decided = new Map<string, string>()
  const lastOfCount = new Map<number, readonly number[]>()
  for (const [index, { names, owners }] of stages.entries()) {
    const room = shares.map((share) => share[index] as number)
    const places = new Placing(hashes, room, lastOfCount.get(names.length)).place(owners)
    lastOfCount.set(names.length, places)
    for (const [place, member] of places.entries()) decided.set(names[place] as string, members[member] as string)
  }
  return decided
}

const nobody = -1

interface Stage {
  readonly name: string
  /** Of its partitions, in the order of their numbers. */
  readonly names: readonly string[]
  /** Of each, as an index into the members. */
  readonly owners: readonly number[]
}

const stagesOf = ({ partitions, owners }: AssignmentView, members: readonly string[]): readonly Stage[] => {
  const indexes = new Map(members.map((member, index) => [member, index]))
  const byStage = Map.groupBy(partitions, ({ stage }) => stage)
  return [...byStage.keys()].toSorted().map((name) => {
    const numbers = new Set(byStage.get(name)?.map(({ partition }) => partition))
    const names = [...numbers].toSorted((left, right) => left - right).map((partition) => partitionName({ stage: name, partition }))
    return { name, names, owners: names.map((partition) => indexes.get(owners.get(partition) ?? "") ?? nobody) }
  })
}

/** Places the partitions of one stage. Each step takes its partitions in an order that the steps of a hand-over do not change (A4). */
class Placing {
  readonly #hashes: readonly number[]
  /** How many more each member takes. */
  readonly #room: number[]
  /** Where the partitions of the same numbers are, in a stage that was placed before (A5). */
  readonly #siblings: readonly number[] | undefined

  constructor(hashes: readonly number[], room: readonly number[], siblings: readonly number[] | undefined) {
    this.#hashes = hashes
    this.#room = [...room]
    this.#siblings = siblings
  }

  /** The member of each partition. */
  place(owners: readonly number[]): readonly number[] {
    const places = new Array<number>(owners.length).fill(nobody)
    const put = (place: number, member: number): void => {
      if (member === nobody || places[place] !== nobody || this.#room[member] === 0) return
      places[place] = member
      this.#room[member] = (this.#room[member] as number) - 1
    }
    for (const place of this.#byLoyalty(owners)) put(place, owners[place] as number)
    for (const [place, sibling] of (this.#siblings ?? []).entries()) put(place, sibling)
    for (const place of owners.keys()) if (places[place] === nobody) put(place, this.#nearest(hashOf(place, owners.length)))
    return places
  }

  /** Those with an owner: who must give some up keeps those whose siblings it has, then the first. */
  #byLoyalty(owners: readonly number[]): readonly number[] {
    const owned = [...owners.keys()].filter((place) => owners[place] !== nobody)
    const isTogether = (place: number): boolean => this.#siblings?.[place] === owners[place]
    return [...owned.filter(isTogether), ...owned.filter((place) => !isTogether(place))]
  }

  /** Rendezvous hashing: of the members with room the one whose hash with the partition's is the highest. */
  #nearest(spot: number): number {
    let nearest = nobody
    let highest = -1
    for (const [member, room] of this.#room.entries()) {
      const rank = room === 0 ? -1 : mixed32((this.#hashes[member] as number) ^ spot)
      if (rank <= highest) continue
      nearest = member
      highest = rank
    }
    return nearest
  }
}

/** The same for partitions of the same number in stages with equal counts, so that they end at the same member. */
const hashOf = (place: number, count: number): number => fnv1a32(`${place} of ${count}`)
