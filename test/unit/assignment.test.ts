// Goal: members with the same view agree on whose each partition is, evenly, and nothing moves without need (M2, A1-A6).
// Method: rows of small cases; then random views held against the laws, and small ones against every assignment that there is.
// Rerun with SEED=<n>.
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { type Assignment, assign, partitionName, type StagePartition } from "../../src/partition/assignment.ts"

const seed = Number(process.env.SEED ?? 1)
const runs = { seed, numRuns: 500 }

/** `{ a: 3, b: 2 }`: a stage "a" of three partitions, a stage "b" of two. */
type Counts = Readonly<Record<string, number>>

const partitionsOf = (counts: Counts): readonly StagePartition[] =>
  Object.entries(counts).flatMap(([stage, count]) => Array.from({ length: count }, (_, partition) => ({ stage, partition })))

const membersOf = (count: number): readonly string[] => Array.from({ length: count }, (_, index) => `m${index}`)

const decide = (counts: Counts, members: readonly string[], owners: ReadonlyMap<string, string> = new Map()): Assignment =>
  assign({ members, partitions: partitionsOf(counts), owners })

/** How many partitions each member has, of one stage or of all. */
const sizes = (assignment: Assignment, members: readonly string[], stage?: string): readonly number[] =>
  members.map((member) => [...assignment].filter(([name, owner]) => owner === member && (!stage || name.startsWith(`${stage}/`))).length)

const spread = (counts: readonly number[]): number => Math.max(...counts) - Math.min(...counts)

/** Those whose owner is a member and has to give them up. */
const movesOf = (assignment: Assignment, members: readonly string[], owners: ReadonlyMap<string, string>): readonly string[] =>
  [...owners].flatMap(([name, owner]) => (members.includes(owner) && assignment.get(name) !== owner ? [name] : []))

const isEven = (assignment: Assignment, members: readonly string[], counts: Counts): boolean =>
  [undefined, ...Object.keys(counts)].every((stage) => spread(sizes(assignment, members, stage)) <= 1)

/** Every way to give the partitions to the members. */
function* everyAssignment(names: readonly string[], members: readonly string[]): Generator<Assignment> {
  const total = members.length ** names.length
  for (let number = 0; number < total; number++) {
    const digits = names.map((_, index) => Math.floor(number / members.length ** index) % members.length)
    yield new Map(names.map((name, index) => [name, members[digits[index] as number] as string]))
  }
}

const fewestMoves = (counts: Counts, members: readonly string[], owners: ReadonlyMap<string, string>): number => {
  let fewest = Number.POSITIVE_INFINITY
  for (const candidate of everyAssignment(partitionsOf(counts).map(partitionName), members)) {
    if (isEven(candidate, members, counts)) fewest = Math.min(fewest, movesOf(candidate, members, owners).length)
  }
  return fewest
}

const someOf = <T>(items: readonly T[], bits: number): readonly T[] => items.filter((_, index) => (bits >> (index % 31)) & 1)

const countsUpTo = (stagesMax: number, partitionsMax: number): fc.Arbitrary<Counts> =>
  fc
    .array(fc.integer({ min: 1, max: partitionsMax }), { minLength: 1, maxLength: stagesMax })
    .map((list) => Object.fromEntries(list.map((count, index) => [`stage-${index}`, count])))

/** A query, its members, and who owns what: members, the dead, nobody. */
const anyView = (bounds: { readonly stages: number; readonly partitions: number; readonly members: number }) =>
  fc
    .record({ counts: countsUpTo(bounds.stages, bounds.partitions), memberCount: fc.integer({ min: 1, max: bounds.members }) })
    .chain(({ counts, memberCount }) => {
      const members = membersOf(memberCount)
      const names = partitionsOf(counts).map(partitionName)
      return fc.array(fc.constantFrom(...members, "dead", undefined), { minLength: names.length, maxLength: names.length }).map((list) => {
        const owners = new Map(names.flatMap((name, index) => (list[index] === undefined ? [] : [[name, list[index]] as const])))
        return { counts, members, owners }
      })
    })

const wide = anyView({ stages: 4, partitions: 20, members: 7 })

describe("small cases", () => {
  const rows: readonly (readonly [what: string, counts: Counts, memberCount: number, owners: object, sizes: object, moves: number])[] = [
    ["nobody is there", { a: 2 }, 0, {}, {}, 0],
    ["one has everything", { a: 3, b: 2 }, 1, {}, { m0: 5 }, 0],
    ["more members than partitions", { a: 2 }, 3, { "a/0": "m2", "a/1": "m0" }, { m0: 1, m1: 0, m2: 1 }, 0],
    ["the second gets half", { a: 4 }, 2, { "a/0": "m0", "a/1": "m0", "a/2": "m0", "a/3": "m0" }, { m0: 2, m1: 2 }, 2],
    ["an uneven stage stays where it is", { a: 3 }, 2, { "a/0": "m1", "a/1": "m1", "a/2": "m0" }, { m0: 1, m1: 2 }, 0],
    ["what the dead owned goes to the living", { a: 4 }, 2, { "a/0": "m0", "a/1": "x", "a/2": "x", "a/3": "m1" }, { m0: 2, m1: 2 }, 0],
    ["remainders do not fall on one member", { a: 1, b: 1 }, 2, { "a/0": "m0", "b/0": "m0" }, { m0: 1, m1: 1 }, 1],
    ["what is owned but not of the query does not count", { a: 2 }, 2, { "a/0": "m0", "a/7": "m0", "z/0": "m0" }, { m0: 1, m1: 1 }, 0]
  ]
  for (const [what, counts, memberCount, owners, wanted, moves] of rows) {
    test(`${what}: ${JSON.stringify(counts)}, ${memberCount} members, ${JSON.stringify(owners)}`, () => {
      const members = membersOf(memberCount)
      const known = new Map(Object.entries(owners) as [string, string][])
      const decided = decide(counts, members, known)
      expect(Object.fromEntries(members.map((member, index) => [member, sizes(decided, members)[index]]))).toEqual(wanted)
      expect(movesOf(decided, members, known).filter((name) => decided.has(name))).toHaveLength(moves)
    })
  }

  test("A3 one more member takes the fewest that evenness asks for, of one stage exactly its floor", () => {
    for (let memberCount = 1; memberCount <= 12; memberCount++) {
      for (let count = 1; count <= 40; count++) {
        const before = decide({ a: count }, membersOf(memberCount))
        const members = membersOf(memberCount + 1)
        const after = decide({ a: count }, members, before)
        expect(movesOf(after, members, before)).toHaveLength(Math.floor(count / (memberCount + 1)))
      }
    }
  })

  test("A3 when a member of one stage leaves, nothing moves among those who stay", () => {
    for (let memberCount = 2; memberCount <= 12; memberCount++) {
      for (let count = 1; count <= 40; count++) {
        const before = decide({ a: count }, membersOf(memberCount))
        const members = membersOf(memberCount).slice(1)
        expect(movesOf(decide({ a: count }, members, before), members, before)).toEqual([])
      }
    }
  })
})

describe(`any view (SEED=${seed})`, () => {
  test("A1, A2 every partition is a member's, and no member has two more than another", () => {
    fc.assert(
      fc.property(wide, ({ counts, members, owners }) => {
        const decided = decide(counts, members, owners)
        expect([...decided.keys()].toSorted()).toEqual(partitionsOf(counts).map(partitionName).toSorted())
        for (const owner of decided.values()) expect(members).toContain(owner)
        expect(isEven(decided, members, counts)).toBe(true)
      }),
      runs
    )
  })

  test("A3 no even assignment moves fewer", () => {
    fc.assert(
      fc.property(anyView({ stages: 3, partitions: 2, members: 3 }), ({ counts, members, owners }) => {
        const moves = movesOf(decide(counts, members, owners), members, owners)
        expect(moves).toHaveLength(fewestMoves(counts, members, owners))
      }),
      runs
    )
  })

  test("A3 what is decided stays when nothing happens, and when members join and leave again it is even again", () => {
    fc.assert(
      fc.property(countsUpTo(4, 20), fc.array(fc.integer({ min: 1, max: 7 }), { maxLength: 6 }), (counts, steps) => {
        let owners: Assignment = new Map()
        for (const count of steps) {
          const members = membersOf(count)
          owners = decide(counts, members, owners)
          expect(decide(counts, members, owners)).toEqual(owners)
        }
      }),
      runs
    )
  })

  test("A4 a hand-over under way does not change its aim", () => {
    const bits = fc.integer({ min: 0, max: 2 ** 31 - 1 })
    fc.assert(
      fc.property(wide, bits, bits, ({ counts, members, owners }, givenUp, taken) => {
        const decided = decide(counts, members, owners)
        const under = new Map(owners)
        for (const name of someOf(movesOf(decided, members, owners), givenUp)) under.delete(name)
        const free = [...decided.keys()].filter((name) => !members.includes(under.get(name) ?? ""))
        for (const name of someOf(free, taken)) under.set(name, decided.get(name) as string)
        expect(decide(counts, members, under)).toEqual(decided)
      }),
      { seed, numRuns: 2_000 }
    )
  })

  test("A6 the order in which things are listed does not matter", () => {
    const any = wide.chain((view) =>
      fc.record({
        view: fc.constant(view),
        members: fc.shuffledSubarray([...view.members], { minLength: view.members.length }),
        partitions: fc.shuffledSubarray([...partitionsOf(view.counts)], { minLength: partitionsOf(view.counts).length }),
        owners: fc.shuffledSubarray([...view.owners], { minLength: view.owners.size })
      })
    )
    fc.assert(
      fc.property(any, ({ view, members, partitions, owners }) => {
        const decided = decide(view.counts, view.members, view.owners)
        const again = assign({ members: [...members, ...members], partitions: [...partitions, ...partitions], owners: new Map(owners) })
        expect(again).toEqual(decided)
      }),
      runs
    )
  })
})

test("A6 members whose names have the same hash are told apart by their names", () => {
  const members = ["costarring", "liquid"]
  const decided = decide({ a: 5, b: 3 }, members)
  expect(decide({ a: 5, b: 3 }, members.toReversed())).toEqual(decided)
  expect(isEven(decided, members, { a: 5, b: 3 })).toBe(true)
})

describe("A5 partitions of the same number share a member", () => {
  const apart = (decided: Assignment, count: number): readonly number[] =>
    Array.from({ length: count }, (_, partition) => partition).filter(
      (partition) => decided.get(`a/${partition}`) !== decided.get(`b/${partition}`)
    )

  for (const [count, memberCount] of [
    [16, 1],
    [16, 2],
    [16, 4],
    [12, 3],
    [1_024, 64]
  ] as const) {
    test(`all of them, where stages of ${count} divide among ${memberCount}`, () => {
      expect(apart(decide({ a: count, b: count }, membersOf(memberCount)), count)).toEqual([])
    })
  }

  test("but for the remainders, that go to others in the second stage", () => {
    for (let memberCount = 1; memberCount <= 16; memberCount++) {
      expect(apart(decide({ a: 16, b: 16 }, membersOf(memberCount)), 16).length).toBeLessThanOrEqual(16 % memberCount)
    }
  })

  test("also when one of the two stages is owned and the other is not", () => {
    const members = membersOf(4)
    const owners = new Map(Array.from({ length: 16 }, (_, partition) => [`a/${partition}`, `m${(partition * 7) % 4}`]))
    expect(apart(decide({ a: 16, b: 16 }, members, owners), 16)).toEqual([])
  })

  test("who must give some up keeps those whose siblings it has", () => {
    const owners = new Map(
      Array.from({ length: 16 }, (_, partition) => [
        [`a/${partition}`, `m${partition % 2}`],
        [`b/${partition}`, "m0"]
      ]).flat() as [string, string][]
    )
    expect(apart(decide({ a: 16, b: 16 }, membersOf(2), owners), 16)).toEqual([])
  })

  test("and after members have come and gone one by one", () => {
    let owners: Assignment = new Map()
    for (const memberCount of [1, 2, 3, 4, 3, 2, 4, 8, 4, 2]) {
      owners = decide({ a: 16, b: 16 }, membersOf(memberCount), owners)
      if (16 % memberCount === 0) expect(apart(owners, 16).length, `${memberCount} members`).toBeLessThanOrEqual(2)
    }
  })

  test("a stage of another count goes its own way", () => {
    const decided = decide({ a: 16, b: 32 }, membersOf(4))
    expect(apart(decided, 16).length).toBeGreaterThan(0)
  })
})

test("unowned partitions are spread by rendezvous: those of a missing member go to all the others", () => {
  const members = membersOf(8)
  const before = decide({ a: 256 }, members)
  const after = decide({ a: 256 }, members.slice(1), before)
  const heirs = new Set([...before].flatMap(([name, owner]) => (owner === "m0" ? [after.get(name)] : [])))
  expect(heirs.size).toBe(7)
})

test("1,024 partitions and 50 members are decided in less than 10 ms", () => {
  for (const counts of [{ a: 1_024 }, { a: 256, b: 256, c: 256, d: 256 }]) {
    let owners: Assignment = new Map()
    const elapsedMs: number[] = []
    for (const memberCount of [49, 50, 49, 45, 50]) {
      for (let round = 0; round < 10; round++) {
        const startMs = performance.now()
        owners = decide(counts, membersOf(memberCount), owners)
        elapsedMs.push(performance.now() - startMs)
      }
    }
    expect(elapsedMs.toSorted((left, right) => left - right)[elapsedMs.length >> 1]).toBeLessThan(10)
  }
})
