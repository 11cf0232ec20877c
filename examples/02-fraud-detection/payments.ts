/**
 * A day of card payments made from a seed: the same seed and options, the same lines.
 *
 * People pay now and then, never twice within three minutes; some payments are below 1.00, some above 500.00. Among them:
 *   - 3 stolen cards (or 1 in 2,000 accounts) are tried with a small payment and emptied within the minute;
 *   - as many are used 6 times within 10 minutes, and as many for more than 3,000.00;
 *   - lines are out of order, each at most 5 seconds behind the newest line before it;
 *   - 1 in 2,000 lines is rubbish: cut off, without an account, with an amount that is none.
 */
import type { Alert, Payment } from "./payment.ts"

export interface DayOptions {
  readonly seed: number
  /** How many payments of honest people. Default 10,000. */
  readonly lines?: number
}

export interface Day {
  readonly lines: readonly string[]
  /** The frauds that are in it, one alert each: rule and account. */
  readonly frauds: readonly (readonly [rule: Alert["rule"], account: string])[]
  readonly rubbish: number
}

/** Numbers from 0 to below 1, the same for the same seed: mulberry32. */
const randomNumbers = (seed: number): (() => number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const minuteMs = 60_000
const dayMs = Date.UTC(2026, 0, 5)
const disorderMs = 5_000

export const dayOfPayments = ({ seed, lines: honest = 10_000 }: DayOptions): Day => {
  const random = randomNumbers(seed)
  const accounts = Math.max(10, Math.floor(honest / 10))
  const kinds = Math.max(3, Math.floor(accounts / 2_000))
  const rubbish = Math.max(2, Math.floor(honest / 2_000))
  const made = [...honestPayments(random, honest, accounts)]
  const frauds: (readonly [Alert["rule"], string])[] = []
  for (let kind = 0; kind < kinds; kind++) {
    // Of accounts that nobody else has, so that honest payments don't come in between.
    for (const [rule, payments] of fraudsOf(random, accounts + 3 * kind)) {
      frauds.push([rule, payments[0]?.account ?? ""])
      made.push(...payments)
    }
  }
  const inOrder = made
    .map((payment) => ({ payment, arrivesAt: payment.at + random() * disorderMs }))
    .sort((a, b) => a.arrivesAt - b.arrivesAt)
  const lines = inOrder.map(({ payment }, index) => JSON.stringify({ id: `p${index + 1}`, ...payment }))
  for (let count = 0; count < rubbish; count++) lines.splice(Math.floor(random() * lines.length), 0, pick(random, rubbishLines))
  return { lines, frauds, rubbish }
}

type Made = Omit<Payment, "id">

const at = (random: () => number, account: number, amount: number, time: number): Made => ({
  account: `account-${String(account).padStart(5, "0")}`,
  card: `card-${String(account).padStart(5, "0")}`,
  merchant: pick(random, merchants),
  amount: Math.round(amount * 100) / 100,
  at: Math.floor(time)
})

/** Each account's payments are 3 minutes apart or more: no four of them are within 10 minutes. */
const honestPayments = (random: () => number, count: number, accounts: number): Made[] => {
  const times = new Map<number, number>()
  return Array.from({ length: count }, () => {
    const account = Math.floor(accounts * random())
    const time = (times.get(account) ?? dayMs + 60 * minuteMs * 24 * (random() / 4)) + (3 + 120 * random() ** 3) * minuteMs
    times.set(account, time)
    return at(random, account, honestAmount(random), time)
  })
}

/** Mostly 5 to 100; now and then a parking meter, or a television. */
const honestAmount = (random: () => number): number => {
  const kind = random()
  if (kind < 0.02) return 0.1 + 0.8 * random()
  return kind < 0.04 ? 500 + 200 * random() : 5 + 95 * random() ** 2
}

/** One of each kind, by three accounts from this one on. */
const fraudsOf = (random: () => number, account: number): readonly (readonly [Alert["rule"], readonly Made[]])[] => {
  const time = dayMs + (8 + 10 * random()) * 60 * minuteMs
  const series = (of: number, count: number, everyMs: number, amount: () => number): Made[] =>
    Array.from({ length: count }, (_, index) => at(random, of, amount(), time + index * everyMs))
  const tried = at(random, account, 0.1 + 0.5 * random(), time)
  const emptied = at(random, account, 600 + 900 * random(), time + (15 + 35 * random()) * 1_000)
  return [
    ["small-then-large", [tried, emptied]],
    ["velocity", series(account + 1, 6, 90_000, () => 20 + 60 * random())],
    ["velocity", series(account + 2, 4, 2 * minuteMs, () => 760 + 200 * random())]
  ]
}

const pick = <T>(random: () => number, choices: readonly T[]): T => choices[Math.floor(random() * choices.length)] as T

const merchants = ["Market Hall", "Bookshop", "Fuel 24", "Online Shop", "Bakery", "Parking", "Hotel Post", "Electronics"]

const rubbishLines = [
  '{"id":"p0","account":"account-00001","am',
  '{"id":"p0","card":"card-00001","merchant":"Bakery","amount":5,"at":1767610000000}',
  '{"id":"p0","account":"account-00001","card":"card-00001","merchant":"Bakery","amount":"five","at":1767610000000}',
  "null"
]
