// Goal: whatever the bytes are, reading them ends, soon, with what they say or with an error that says what is damaged (Z1 to Z4, target.ts).
// Method: real inputs (corpus/), each of which must be read; what has failed once (crashes/); and mutations of both, from a seed. Rerun with
// SEED=<n>; KEYFOLD_TEST=full tries forty times as many. `npm run fuzz` goes on from there (run.ts).
import { describe, expect, test } from "vitest"
import { drive, judge } from "./engine.ts"
import { kept } from "./kept.ts"
import { shrunk } from "./shrinking.ts"
import type { Target } from "./target.ts"
import { targets } from "./targets.ts"

const seed = Number(process.env["SEED"] ?? 1)
const inputsDefault = 500
const times = process.env["KEYFOLD_TEST"] === "full" ? 40 : 1

describe.each(targets)("$name", (target) => {
  const corpus = kept("corpus", target)

  test("Z4 real inputs are read", async () => {
    expect(corpus.length).toBeGreaterThan(0)
    for (const { name, input } of corpus) expect([name, await judge(target, input)]).toEqual([name, { kind: "read" }])
  })

  test("Z1-Z4 what has failed once does not fail any more", async () => {
    for (const { name, input } of kept("crashes", target)) {
      const outcome = await judge(target, input)
      expect(outcome.kind === "fault" ? `${name}: ${outcome.detail}` : "").toBe("")
    }
  })

  test(`Z1-Z4 damaged inputs are read or refused (SEED=${seed})`, { timeout: 600_000 }, async () => {
    const inputs = (target.inputs ?? inputsDefault) * times
    const known = [...corpus, ...kept("crashes", target)].map(({ input }) => input)
    const course = { seed, from: 0, goesOn: (count: number) => count < inputs, failuresMax: 1 }
    const { failures, read, refused } = await drive(target, known, course)
    const told = await Promise.all(
      failures.map(async ({ input, number, fault }) => {
        const small = await shrunk(target, input, fault)
        return `input ${number} with SEED=${seed}: ${fault.detail}\nshortened, in base64: ${small.toString("base64").slice(0, 2_000)}`
      })
    )
    expect(told).toEqual([])
    // Mutations that nothing survives, or that nobody notices, would try nothing.
    expect(read).toBeGreaterThan(0)
    if (target.allowed.length > 0) expect(refused.size).toBeGreaterThan(0)
  })
})

describe("the engine finds", () => {
  const sick = (read: Target["read"]): Target => ({ name: "sick", read, allowed: ["decode-failed"], names: /record/ })
  const course = { seed, from: 0, goesOn: () => true, failuresMax: 1 }
  const whatOf = async (read: Target["read"]): Promise<string | undefined> =>
    (await drive(sick(read), [Buffer.from("a record")], course)).failures[0]?.fault.what

  test("an error of another class, an error without a name, a promise that is rejected", async () => {
    expect(await whatOf((input) => input.readUInt32LE(6))).toBe("RangeError")
    expect(await whatOf(async () => JSON.parse(""))).toBe("SyntaxError")
  })

  test("a loop without an end", async () => {
    const target = sick(() => {
      for (;;);
    })
    expect(await judge(target, Buffer.alloc(1), 200)).toMatchObject({ kind: "fault", what: "hang" })
  })

  test("memory that is taken for what is not there", async () => {
    expect(
      await judge(
        sick(() => new Array(2 ** 25).fill(0).length),
        Buffer.alloc(1)
      )
    ).toMatchObject({ kind: "fault", what: "memory" })
  })

  test("the shortest input that fails in the same way", async () => {
    const target = sick((input) => {
      if (input.includes("xy")) throw new TypeError("xy")
    })
    const [failure] = (await drive({ ...target, words: ["xy"] }, [Buffer.from("a record")], course)).failures
    if (failure === undefined) throw new Error("nothing failed")
    expect((await shrunk(target, failure.input, failure.fault)).toString()).toBe("xy")
  })
})
