/** Event-time timeouts, many at once: each before the next rows of its key. */
import { job, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import type { Dice } from "../../../src/simulation/dice.ts"
import { valuesIn } from "../../../src/simulation/outputs.ts"
import { foulIn, foulOf, judgeNumbersOf } from "../judges.ts"
import { defined, eventsFor, someOf, type Work } from "../work.ts"

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

export const deadlines = (dice: Dice): Work => {
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
  const sent = someOf(dice, (number): Step => {
    // Time stands still, and then makes everything due at once.
    if (dice.chance(0.1)) at += 2 * deadlineMs
    return { order: `order ${dice.whole(0, 19)}`, number, at }
  })
  return {
    job: expiring,
    events: eventsFor(steps, 2, sent),
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
