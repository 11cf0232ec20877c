/** Event time through two shuffles. */
import { job, topic } from "keyfold"
import { sessionize } from "keyfold/actors/sessionize"
import { json } from "keyfold/codecs/json"
import type { Dice } from "../../../src/simulation/dice.ts"
import { skewMsMax } from "../../../src/simulation/faults.ts"
import { valuesIn } from "../../../src/simulation/outputs.ts"
import { trueSessions } from "../../reference/sessions.ts"
import { differenceOf, foulIn } from "../judges.ts"
import { defined, eventsFor, someOf, type Work } from "../work.ts"

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

export const sessionsInTwoHops = (dice: Dice): Work => {
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
  const sent = someOf(
    dice,
    (index): Request => ({ reader: `${dice.whole(0, 1)}${dice.whole(0, 3)}`, at: beginMs + index * pauseMs - dice.whole(0, 25_000) })
  )
  const events = eventsFor(requests, inputs, sent)
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
    // Watermarks go out by clocks, which may have been ahead (P24).
    restMs: skewMsMax + 1_000,
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
