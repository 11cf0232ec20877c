/**
 * The jobs that the simulator runs, each with events of a seed and a plain sequential model that says what must come out, and in which order
 * per key. Functions that are called at a wrong time, with a wrong state or in a wrong order say so in what they put out: a call whose turn
 * is never committed, because Redis has gone back meanwhile, may see anything.
 */
import { type Job, job, topic } from "keyfold"
import { sessionize } from "keyfold/actors/sessionize"
import { json } from "keyfold/codecs/json"
import { definitionOf, type TopicDefinition } from "../../src/model/topic.ts"
import type { SimulatedCluster } from "../../src/simulation/cluster.ts"
import type { Dice } from "../../src/simulation/dice.ts"
import { skewMsMax } from "../../src/simulation/faults.ts"
import { eventOf, valuesIn } from "../../src/simulation/outputs.ts"
import type { TrialEvent } from "../../src/simulation/trial.ts"
import { trueSessions } from "../reference/sessions.ts"

/** One job with one seed's events. */
export interface Work {
  readonly job: Job
  readonly events: readonly TrialEvent[]
  /** How long clocks go on after everything was read, milliseconds. */
  readonly restMs: number
  /**
   * What is wrong with what came out; undefined when nothing is. `isPartial`: the query has stopped, because something was lost for good, so
   * much may be missing, but nothing may be wrong with what is there.
   */
  readonly judge: (cluster: SimulatedCluster, isPartial: boolean) => string | undefined
  /** What should be out by then, before what is open is closed, and is not. */
  readonly judgeOpen?: (cluster: SimulatedCluster) => string | undefined
}

export const workloads: Readonly<Record<string, (dice: Dice) => Work>> = {
  counting: (dice) => counting(dice),
  "sessions in two hops": (dice) => sessionsInTwoHops(dice),
  reminders: (dice) => reminders(dice),
  deadlines: (dice) => deadlines(dice)
}

const eventsMax = 80
const eventMsEvery = 80

const times = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => make(index))

const countOf = (dice: Dice): number => dice.whole(5, eventsMax)

const defined = (declared: unknown): TopicDefinition => definitionOf(declared) as TopicDefinition

// ---- every event one result: order per key, and each state once

interface Payment {
  readonly card: string
  readonly number: number
}

interface Count extends Payment {
  readonly count: number
}

const counting = (dice: Dice): Work => {
  const payments = topic("payments", { codec: json<Payment>(), key: ({ card }) => card, partitions: 3 })
  const counts = topic("counts", { codec: json<Count>(), key: ({ card }) => card, partitions: 2 })
  const counted = job("counting")
    .from(payments)
    .groupByKey()
    .flatMapGroupsWithState({ state: json<number>() }, function* (card, found, state) {
      let count = state.getOption() ?? 0
      for (const { number } of found) yield { card, number, count: ++count }
      // A key that is removed leaves nothing behind, and begins again.
      if (count >= 12) state.remove()
      else state.update(count)
    })
    .to(counts)
  const sent = times(countOf(dice), (number): Payment => ({ card: `card ${dice.whole(0, 6)}`, number }))
  return {
    job: counted,
    events: sent.map((payment, index) => ({ atMs: index * eventMsEvery, ...eventOf(defined(payments), 3, payment) })),
    restMs: 0,
    judge: (cluster, isPartial) => judgeByKey(sent, valuesIn(cluster, defined(counts)) as readonly Count[], isPartial)
  }
}

/** A count may go beyond 12 when one call took several: it depends on the cuts when a key begins again, but never on anything else. */
const judgeByKey = (sent: readonly Payment[], found: readonly Count[], isPartial: boolean): string | undefined => {
  const last = new Map<string, number>()
  const numbers = new Map<string, number[]>()
  for (const { card, number, count } of found) {
    const before = last.get(card) ?? 0
    if (count !== before + 1 && !(count === 1 && before >= 12)) return `${card} is counted ${count} behind ${before}`
    last.set(card, count)
    numbers.set(card, [...(numbers.get(card) ?? []), number])
  }
  for (const card of new Set(sent.map((payment) => payment.card))) {
    const expected = sent.filter((payment) => payment.card === card).map(({ number }) => number)
    const got = numbers.get(card) ?? []
    if (!isSame(got, expected, isPartial)) return `${card} has results of ${got}, its events are ${expected}`
  }
  return isPartial || found.length === sent.length ? undefined : `${found.length} results of ${sent.length} events`
}

/** `isPartial`: or the beginning of it. */
const isSame = (found: readonly unknown[], expected: readonly unknown[], isPartial: boolean): boolean =>
  String(found) === String(isPartial ? expected.slice(0, found.length) : expected)

// ---- event time through two shuffles

interface Request {
  readonly reader: string
  readonly at: number
}

interface Numbered {
  readonly foul?: string | undefined
  readonly group: string
  readonly number: number
  readonly line: string
}

const gapMs = 60_000
const delayMs = 30_000
const inputs = 3

const sessionsInTwoHops = (dice: Dice): Work => {
  const requests = topic("requests", { codec: json<Request>(), key: ({ reader }) => reader, partitions: inputs })
  const numbered = topic("numbered", { codec: json<Numbered>(), key: ({ group }) => group, partitions: 2 })
  const numbering = job("sessions")
    .from(requests)
    .withWatermark(({ at }) => at, delayMs)
    .groupByKey(({ reader }): string => `reader ${reader}`)
    .actor(sessionize<string, Request>({ gap: gapMs, eventTime: ({ at }) => at }))
    .groupByKey(({ key }) => key.slice(0, 8))
    .flatMapGroupsWithState(
      { name: "number", state: json<readonly [number: number, watermarkMs: number]>() },
      function* (group, found, state) {
        const [before, watermarkMs] = state.getOption() ?? [0, 0]
        const foul = state.getCurrentWatermarkMs() < watermarkMs ? `the watermark of ${group} goes back from ${watermarkMs}` : undefined
        let number = before
        for (const { key, start, end, count } of found) yield { foul, group, number: ++number, line: `${key} ${start} ${end} ${count}` }
        state.update([number, state.getCurrentWatermarkMs()])
      }
    )
    .to(numbered)
  const beginMs = 1_700_000_000_000
  const pauseMs = dice.pick([5_000, 20_000, 45_000])
  const sent = times(
    countOf(dice),
    (index): Request => ({ reader: `${dice.whole(0, 1)}${dice.whole(0, 3)}`, at: beginMs + index * pauseMs - dice.whole(0, 25_000) })
  )
  const events = sent.map((request, index) => ({ atMs: index * eventMsEvery, ...eventOf(defined(requests), inputs, request) }))
  const sessions = trueSessions(sent.map(({ reader, at }) => ({ key: `reader ${reader}`, at, gapMs })))
  const lineOf = ({ key, start, end, count }: (typeof sessions)[number]): string => `${key} ${start} ${end} ${count}`
  // The least of the inputs' watermarks, once everything is read; there is none while one of them is empty.
  const latest = [...Map.groupBy(sent.keys(), (index) => events[index]?.stream).values()].map((indices) =>
    Math.max(...indices.map((index) => (sent[index] as Request).at))
  )
  const watermarkMs = latest.length < inputs ? Number.NEGATIVE_INFINITY : Math.min(...latest) - delayMs
  return {
    job: numbering,
    events,
    restMs: 0,
    judgeOpen: (cluster) => {
      const found = new Set((valuesIn(cluster, defined(numbered)) as readonly Numbered[]).map(({ line }) => line))
      const missing = sessions.find((session) => session.end + gapMs < watermarkMs && !found.has(lineOf(session)))
      return missing && `the watermark is ${watermarkMs}, and the session ${lineOf(missing)} is not out`
    },
    judge: (cluster, isPartial) => {
      const expected = sessions.map(lineOf)
      const found = valuesIn(cluster, defined(numbered)) as readonly Numbered[]
      return (
        foulIn(found) ??
        judgeNumbers(found) ??
        differenceOf(
          found.map(({ line }) => line),
          expected,
          isPartial
        )
      )
    }
  }
}

/** In the order of the stream a group's numbers are 1, 2, 3 and so on. */
const judgeNumbers = (found: readonly Numbered[]): string | undefined => {
  const last = new Map<string, number>()
  for (const { group, number } of found) {
    const before = last.get(group) ?? 0
    if (number !== before + 1) return `${group} has number ${number} behind ${before}`
    last.set(group, number)
  }
  return undefined
}

const differenceOf = (found: readonly string[], expected: readonly string[], isPartial: boolean): string | undefined => {
  const sorted = [found.toSorted(), expected.toSorted()].map((lines) => lines.join("\n"))
  if (sorted[0] === sorted[1]) return undefined
  const left = [...found]
  const missing = expected.filter((line) => {
    const index = left.indexOf(line)
    if (index >= 0) left.splice(index, 1)
    return index < 0
  })
  if (isPartial && left.length === 0) return undefined
  return `missing: ${missing.slice(0, 3).join("; ") || "nothing"}, too much: ${left.slice(0, 3).join("; ") || "nothing"}`
}

// ---- processing time: each reminder once, and not early

interface Visit {
  readonly visitor: string
  readonly number: number
}

interface Reminder {
  readonly foul?: string | undefined
  readonly visitor: string
  readonly numbers: readonly number[]
}

interface Waiting {
  readonly numbers: readonly number[]
  readonly dueMs: number
}

const remindMs = 700

const reminders = (dice: Dice): Work => {
  const visits = topic("visits", { codec: json<Visit>(), key: ({ visitor }) => visitor, partitions: 2 })
  const sentOut = topic("reminders", { codec: json<Reminder>(), key: ({ visitor }) => visitor, partitions: 2 })
  const reminding = job("reminding")
    .from(visits)
    .groupByKey()
    .flatMapGroupsWithState({ state: json<Waiting>(), timeout: "processing-time" }, function* (visitor, found, state) {
      const nowMs = state.getCurrentProcessingTimeMs()
      const waiting = state.getOption()
      if (state.hasTimedOut) {
        yield { foul: foulOf(visitor, waiting, nowMs), visitor, numbers: waiting?.numbers ?? [] }
        state.remove()
        return
      }
      const beforeMs = (waiting?.dueMs ?? 0) - remindMs
      if (nowMs < beforeMs) yield { foul: `it is ${nowMs} for ${visitor}, and was ${beforeMs} before (P6)`, visitor, numbers: [] }
      const numbers = [...(waiting?.numbers ?? []), ...found.map(({ number }) => number)]
      state.update({ numbers, dueMs: nowMs + remindMs })
      state.setTimeoutDuration(remindMs)
    })
    .to(sentOut)
  const sent = times(countOf(dice), (number): Visit => ({ visitor: `visitor ${dice.whole(0, 5)}`, number }))
  return {
    job: reminding,
    events: sent.map((visit, index) => ({ atMs: index * eventMsEvery, ...eventOf(defined(visits), 2, visit) })),
    // A clock that was ahead has made "now" that late (P6).
    restMs: 4 * remindMs + skewMsMax,
    judge: (cluster, isPartial) => {
      const found = valuesIn(cluster, defined(sentOut)) as readonly Reminder[]
      return (
        foulIn(found) ??
        judgeNumbersOf(
          found.map(({ visitor, numbers }) => ({ key: visitor, numbers })),
          sent.map(({ visitor, number }) => ({ key: visitor, number })),
          isPartial
        )
      )
    }
  }
}

const foulOf = (key: string, armed: { readonly dueMs: number } | undefined, atMs: number): string | undefined => {
  if (armed === undefined) return `a timeout of ${key} without what it was armed for`
  return atMs <= armed.dueMs ? `a timeout of ${key} at ${atMs}, due at ${armed.dueMs}` : undefined
}

const foulIn = (found: readonly { readonly foul?: string | undefined }[]): string | undefined =>
  found.find(({ foul }) => foul !== undefined)?.foul

/** The numbers of a key, over all its results, are those of its events, in order. */
const judgeNumbersOf = (
  found: readonly { readonly key: string; readonly numbers: readonly number[] }[],
  sent: readonly { readonly key: string; readonly number: number }[],
  isPartial: boolean
): string | undefined => {
  const lines = found.flatMap(({ key, numbers }) => numbers.map((number) => `${key}: ${number}`))
  const expected = sent.map(({ key, number }) => `${key}: ${number}`)
  for (const key of new Set(sent.map((one) => one.key))) {
    const [got, wanted] = [lines, expected].map((all) => all.filter((line) => line.startsWith(`${key}: `))) as [string[], string[]]
    if (!isSame(got, wanted, isPartial)) return `${key} has results of [${got}], its events are [${wanted}]`
  }
  return differenceOf(lines, expected, isPartial)
}

// ---- event-time timeouts, many at once: each before the next rows of its key

interface Step {
  readonly order: string
  readonly number: number
  readonly at: number
}

interface Expired {
  readonly foul?: string | undefined
  readonly order: string
  readonly numbers: readonly number[]
}

interface Due {
  readonly numbers: readonly number[]
  readonly dueMs: number
}

const deadlineMs = 10_000

const deadlines = (dice: Dice): Work => {
  const steps = topic("steps", { codec: json<Step>(), key: ({ order }) => order, partitions: 2 })
  const expired = topic("expired", { codec: json<Expired>(), key: ({ order }) => order, partitions: 1 })
  const expiring = job("deadlines")
    .from(steps)
    .withWatermark(({ at }) => at, "5 seconds")
    .groupByKey()
    .flatMapGroupsWithState({ state: json<Due>(), timeout: "event-time" }, function* (order, found, state) {
      const watermarkMs = state.getCurrentWatermarkMs()
      const known = state.getOption()
      if (state.hasTimedOut) {
        yield { foul: foulOf(order, known, watermarkMs), order, numbers: known?.numbers ?? [] }
        state.remove()
        return
      }
      // B3, P22: what became due rings before the next rows, however many there are, and whoever has taken over meanwhile.
      if (known !== undefined && watermarkMs > known.dueMs)
        yield { foul: `rows of ${order} at ${watermarkMs}, its timeout is due at ${known.dueMs}`, order, numbers: [] }
      const arrived = [...found]
      const dueMs = known?.dueMs ?? Math.max(watermarkMs, ...arrived.map(({ at }) => at)) + deadlineMs
      state.update({ numbers: [...(known?.numbers ?? []), ...arrived.map(({ number }) => number)], dueMs })
      state.setTimeoutTimestamp(dueMs)
    })
    .to(expired)
  const beginMs = 1_700_000_000_000
  let at = beginMs
  const sent = times(countOf(dice), (number): Step => {
    // Time stands still, and then makes everything due at once.
    if (dice.chance(0.1)) at += 2 * deadlineMs
    return { order: `order ${dice.whole(0, 19)}`, number, at }
  })
  return {
    job: expiring,
    events: sent.map((step, index) => ({ atMs: index * eventMsEvery, ...eventOf(defined(steps), 2, step) })),
    restMs: 0,
    judge: (cluster, isPartial) => {
      const found = valuesIn(cluster, defined(expired)) as readonly Expired[]
      return (
        foulIn(found) ??
        judgeNumbersOf(
          found.map(({ order, numbers }) => ({ key: order, numbers })),
          sent.map(({ order, number }) => ({ key: order, number })),
          isPartial
        )
      )
    }
  }
}
