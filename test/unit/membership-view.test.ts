// Goal: what a member knows follows from what Redis has answered, in whatever portions.
// Method: answers by hand; the laws over a real Redis are in test/law/membership.test.ts.
import { describe, expect, test } from "vitest"
import type { PartitionNews } from "../../src/partition/membership.ts"
import { type Answer, type Entry, MembershipView } from "../../src/partition/membership-view.ts"
import { newsOf, newsText } from "../../src/partition/news-text.ts"

const partitions = [0, 1, 2, 3].map((partition) => ({ stage: "a", partition }))
const clock = { watermarkMs: 12.5, idle: true, shown: false }
const news: PartitionNews = { own: clock, outgoing: { watermarkMs: 0, idle: false, shown: true }, positions: [1, 2], phase: "rested" }

const owner = (partition: number, value: string): Entry => ({ kind: "owner", partition: `a/${partition}`, revision: 5, value })
const word = (partition: number, revision: number): Entry => ({
  kind: "news",
  partition: `a/${partition}`,
  revision,
  value: newsText(news)
})
const answer = (parts: Partial<Answer>): Answer => ({ isWhole: false, revision: "10", members: ["m", "n"], entries: [], ...parts })
const nobody: ReadonlySet<string> = new Set()

const joined = (...entries: Entry[]): MembershipView => {
  const view = new MembershipView(partitions)
  view.take(answer({ isWhole: true, entries }), nobody)
  return view
}

describe("owners", () => {
  test("of a whole answer replace those that were known; of a part they are added", () => {
    const view = joined(owner(0, "m"), owner(1, "n"))
    view.take(answer({ entries: [owner(2, "m")] }), nobody)
    expect([0, 1, 2, 3].map((partition) => view.ownerOf(`a/${partition}`))).toEqual(["m", "n", "m", undefined])
    view.take(answer({ isWhole: true, entries: [owner(3, "n")] }), nobody)
    expect([0, 1, 2, 3].map((partition) => view.ownerOf(`a/${partition}`))).toEqual([undefined, undefined, undefined, "n"])
    view.take(answer({ entries: [owner(3, "")] }), nobody)
    expect(view.ownedBy("n")).toEqual([])
  })

  test("count while they are members", () => {
    const view = joined(owner(0, "m"), owner(1, "n"))
    view.take(answer({ members: ["n"] }), nobody)
    expect([view.ownerOf("a/0"), view.ownerOf("a/1")]).toEqual([undefined, "n"])
    expect(partitions.map(({ partition }) => view.assigneeOf(`a/${partition}`))).toEqual(["n", "n", "n", "n"])
  })

  test("of partitions that the query no longer has do not matter", () => {
    const view = joined(owner(17, "m"), { ...owner(0, "m"), partition: "gone/0" })
    expect(partitions.filter(({ partition }) => view.assigneeOf(`a/${partition}`) === "m")).toHaveLength(2)
  })

  test("that differ from whose the partitions are make a member one that moves", () => {
    const view = joined(owner(0, "m"), owner(1, "m"), owner(2, "n"), owner(3, "n"))
    expect([view.isMoving("m"), view.isMoving("n")]).toEqual([false, false])
    view.take(answer({ entries: [owner(2, "m")] }), nobody)
    expect([view.isMoving("m"), view.isMoving("n"), view.isMoving("x")]).toEqual([true, true, false])
  })
})

describe("news", () => {
  test("said after the first answer are fresh, also after another whole answer", () => {
    const view = joined(word(0, 9), word(1, 10))
    view.take(answer({ isWhole: true, revision: "30", entries: [word(0, 9), word(2, 11)] }), nobody)
    expect([...view.words("a")].map(([partition, { fresh }]) => [partition, fresh])).toEqual([
      [0, false],
      [1, false],
      [2, true]
    ])
  })

  test("are not taken for partitions that the member itself speaks for, nor for those that the query does not have", () => {
    const view = joined()
    view.take(answer({ entries: [word(0, 11), word(1, 11), word(9, 11)] }), new Set(["a/0"]))
    expect([...view.words("a").keys()]).toEqual([1])
  })

  test("tell whether anything is new", () => {
    const view = joined(owner(0, "m"))
    expect(view.take(answer({}), nobody)).toBe(false)
    expect(view.take(answer({ entries: [word(0, 11)] }), nobody)).toBe(true)
    expect(view.take(answer({ entries: [{ ...word(0, 12), value: "?" }] }), nobody)).toBe(false)
    expect(view.take(answer({ members: ["m"] }), nobody)).toBe(true)
  })

  test("survive their way as text; what is no news is none", () => {
    expect(newsOf(newsText(news))).toEqual(news)
    for (const text of ["", "null", "[]", "{}", "[1]", newsText(news).replace("rested", "other"), newsText(news).replace("12.5", '"x"')]) {
      expect(newsOf(text), text).toBeUndefined()
    }
    expect(newsOf(newsText(news).replace("]]", "],1]"))).toBeUndefined()
  })
})
