// Goal: the service says what it should about payments, and nothing else. Method: the testing kit, which runs the real engine on a clock
// that only the test moves; then the same jobs on real runtimes (fraud-cases.ts). Rerun with SEED=<n>.
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Job } from "keyfold"
import { embedded } from "keyfold/embedded"
import { harness, memory } from "keyfold/testing"
import { afterAll, describe, expect, test } from "vitest"
import fraud, { latePayments, velocityOfCards } from "./fraud.ts"
import { fraudCases } from "./fraud-cases.ts"
import { type Alert, type Payment, paymentCodec } from "./payment.ts"
import { dayOfPayments } from "./payments.ts"
import walkthrough, { walkthroughByEventTime, walkthroughPayments } from "./walkthrough.ts"

const seed = Number(process.env["SEED"] ?? 1)

const noon = Date.UTC(2026, 0, 5, 12)
const seconds = (count: number): number => noon + count * 1_000
const minutes = (count: number): number => noon + count * 60_000

let made = 0
const payment = (account: string, amount: number, at: number): Payment => ({
  id: `p${++made}`,
  account,
  card: `card-${account}`,
  merchant: "Bakery",
  amount,
  at
})

/** Event time goes on to here. */
const clock = (at: number): Payment => payment("clock", 10, at)

describe("Flink's walkthrough", () => {
  const rows = walkthroughPayments(3)

  test.each([
    ["a tenth of a second apart, as in the walkthrough", 1, 100],
    ["a round at a time", 50, 5_000],
    ["all at once", 150, 0]
  ])("read %s has one alert a round: account 3, 871.15", async (_, perTurn, everyMs) => {
    await using service = await harness(walkthrough)
    const alerts = []
    for (let from = 0; from < rows.length; from += perTurn) {
      alerts.push(...(await service.turn(rows.slice(from, from + perTurn), { now: (from / perTurn) * everyMs })).outputs)
    }
    expect(alerts.map(({ account, amount, payment }) => [account, amount, payment])).toEqual([
      ["3", 871.15, "t27"],
      ["3", 871.15, "t77"],
      ["3", 871.15, "t127"]
    ])
    expect(alerts[0]?.reason).toMatch(/^0\.80 was tried first, then 871\.15 taken \d s later/)
  })

  test("read slowly has none: the flag falls after a minute of the machine's time, and nothing of it is left", async () => {
    await using service = await harness(walkthrough)
    const states = []
    for (const [index, row] of rows.entries()) {
      expect((await service.turn([row], { now: index * 15_000 })).outputs).toEqual([])
      states.push(service.state("3"))
    }
    expect(states[22]).toEqual({ amount: 0.8, at: 22 * 15_000 })
    expect([states[26], states[27]]).toEqual([{ amount: 0.8, at: 22 * 15_000 }, undefined])
    expect(service.keys()).toEqual([])
  })

  test("the minute is over though payment and timeout come in the same turn", async () => {
    await using service = await harness(walkthrough)
    await service.turn([payment("a", 0.5, 1), payment("b", 0.5, 1)], { now: 0 })
    expect((await service.turn([payment("a", 600, 2)], { now: 60_000 })).outputs).toHaveLength(1)
    expect((await service.turn([payment("b", 600, 2)], { now: 60_001 })).outputs).toEqual([])
  })

  test.each([1, 7, 50, 150])("has none by the payments' own time, read %d at a time", async (perTurn) => {
    await using service = await harness(walkthroughByEventTime)
    for (let from = 0; from < rows.length; from += perTurn) {
      expect((await service.turn(rows.slice(from, from + perTurn), { now: from * 100 })).outputs).toEqual([])
    }
    expect(service.keys()).toEqual([])
  })
})

describe("small, then large", () => {
  test.each([
    ["30 seconds later", [0.99, 500.01], 30, 1],
    ["a minute later", [0.99, 500.01], 60, 1],
    ["a millisecond more than a minute later", [0.99, 500.01], 60.001, 0],
    ["with the limits themselves", [1, 501], 30, 0],
    ["with the other limit itself", [0.99, 500], 30, 0],
    ["with another payment in between", [0.5, 20, 600], 20, 0],
    ["twice", [0.5, 600, 0.5, 600], 20, 2],
    ["after two small ones", [0.5, 0.6, 600], 20, 1]
  ] as const)("%s", async (_, amounts, everySeconds, count) => {
    const rows = amounts.map((amount, index) => payment("ada", amount, seconds(index * everySeconds)))
    await using together = await harness(fraud)
    expect((await together.turn(rows)).outputs).toHaveLength(count)
    await using apart = await harness(fraud)
    let found = 0
    for (const row of rows) found += (await apart.turn([row])).outputs.length
    expect(found).toBe(count)
  })

  test("of two accounts is nothing", async () => {
    await using service = await harness(fraud)
    expect((await service.turn([payment("ada", 0.5, seconds(0)), payment("bob", 600, seconds(5))])).outputs).toEqual([])
  })

  test("the flag outlives a restart, and falls with the minute", async () => {
    await using service = await harness(fraud)
    await service.turn([payment("ada", 0.5, seconds(0)), payment("bob", 0.5, seconds(0))])
    await service.restart()
    expect((await service.turn([payment("ada", 600, seconds(40))])).outputs).toMatchObject([
      { account: "ada", reason: expect.stringContaining("40 s later") }
    ])
    expect(service.state("bob")).toEqual({ amount: 0.5, at: seconds(0) })
    await service.turn([clock(seconds(71))])
    expect(service.keys()).toEqual([])
  })

  test("what comes too late goes to its topic", async () => {
    await using service = await harness(fraud)
    await service.turn([clock(minutes(5))])
    const late = payment("ada", 0.5, minutes(4))
    expect((await service.turn([late])).outputsOf(latePayments)).toEqual([late])
  })
})

describe("velocity", () => {
  const spent = (amount: number, ...ats: readonly number[]) => ats.map((at) => payment("ada", amount, minutes(at)))
  const reasonsOf = async (rows: readonly Payment[]): Promise<readonly string[]> => {
    await using service = await harness(velocityOfCards)
    const { outputs } = await service.turn(rows)
    return outputs.map(({ reason }) => reason)
  }

  test.each([
    ["6 payments within 10 minutes", spent(10, 0, 1, 2, 3, 4, 9.99), ["6 payments within 10 minutes, the limit is 6"]],
    ["6 in 10 minutes to the millisecond are 5 in any 10", spent(10, 0, 1, 2, 3, 4, 10), []],
    ["more than 3,000.00", spent(1_000.5, 0, 3, 6), ["3001.50 within 10 minutes, the limit is 3000.00"]],
    ["3,000.00 themselves", spent(1_000, 0, 3, 6), []],
    [
      "both at once",
      spent(501, 0, 1, 2, 3, 4, 5),
      ["6 payments within 10 minutes, the limit is 6; 3006.00 within 10 minutes, the limit is 3000.00"]
    ],
    ["one alert while it goes on", spent(10, 0, 1, 2, 3, 4, 5, 6, 7, 8), ["6 payments within 10 minutes, the limit is 6"]],
    ["what comes when its 10 minutes are over does not count", spent(10, 0.1, 1, 2, 3, 10.15, 0.12, 4), []],
    ["out of order by a few seconds", spent(10, 0, 1, 2.1, 2, 4.1, 4), ["6 payments within 10 minutes, the limit is 6"]]
  ] as const)("%s", async (_, rows, reasons) => {
    expect(await reasonsOf(rows)).toEqual(reasons)
  })

  test("the next alert comes after the card has been below the limit", async () => {
    const again = [0, 1, 2, 3, 4, 5, 20, 21, 22, 23, 24, 25]
    expect(await reasonsOf(spent(10, ...again))).toHaveLength(2)
    await using service = await harness(velocityOfCards)
    let count = 0
    for (const row of spent(10, ...again)) {
      count += (await service.turn([row])).outputs.length
      await service.restart()
    }
    expect(count).toBe(2)
  })

  test("a card is forgotten 10 minutes after its last payment, and is never more than 200 payments", async () => {
    await using service = await harness(velocityOfCards)
    await service.turn(Array.from({ length: 300 }, (_, index) => payment("ada", 1, seconds(index))))
    expect(service.state("card-ada")).toMatchObject({ recent: { length: 200 }, tooMany: true, tooMuch: false })
    await service.turn([clock(minutes(15.3))])
    expect(service.keys()).toEqual(["card-clock"])
  })
})

describe("a day of payments", () => {
  test(`is the same for the same seed, and another for another (SEED=${seed})`, () => {
    const day = dayOfPayments({ seed, lines: 1_000 })
    expect(dayOfPayments({ seed, lines: 1_000 })).toEqual(day)
    expect(dayOfPayments({ seed: seed + 1, lines: 1_000 }).lines).not.toEqual(day.lines)
    expect([day.frauds.length, day.rubbish, day.lines.length]).toEqual([9, 2, 1_000 + 3 * 12 + 2])
  })

  test.each([seed, seed + 1, seed + 2])("gives its frauds and no other alert, however it is cut into turns (SEED=%d)", async (seedNow) => {
    const day = dayOfPayments({ seed: seedNow, lines: 2_000 })
    const rows = day.lines.flatMap(paymentOf)
    expect(rows).toHaveLength(day.lines.length - day.rubbish)
    for (const perTurn of [rows.length, 61]) {
      const found: string[] = []
      for (const job of [fraud, velocityOfCards] as readonly Job<Payment, Alert>[]) {
        await using service = await harness(job)
        for (let from = 0; from < rows.length; from += perTurn) {
          const { outputs, late, dead } = await service.turn(rows.slice(from, from + perTurn))
          found.push(...outputs.map(({ rule, account }) => `${rule} ${account}`))
          expect([late, dead]).toEqual([[], []])
        }
      }
      expect(found.toSorted()).toEqual(day.frauds.map((fraud) => fraud.join(" ")).toSorted())
    }
  })

  const paymentOf = (line: string): readonly Payment[] => {
    try {
      return [paymentCodec.decode(paymentCodec.encode(JSON.parse(line) as Payment))]
    } catch {
      return []
    }
  }
})

describe("on a runtime", () => {
  const directories: string[] = []
  afterAll(() => Promise.all(directories.map((directory) => rm(directory, { recursive: true, force: true }))))

  const runtimes = {
    memory: () => memory(),
    embedded: async () => {
      const directory = await mkdtemp(join(tmpdir(), "keyfold-fraud-test-"))
      directories.push(directory)
      return embedded(directory)
    }
  }
  for (const [name, make] of Object.entries(runtimes)) {
    test.each(Object.entries(fraudCases))(`${name}: %s`, async (_, holds) => holds(await make()))
  }
})
