/** Processing time: each reminder once, and not early. */
import { job, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import type { Dice } from "../../../src/simulation/dice.ts"
import { skewMsMax } from "../../../src/simulation/faults.ts"
import { valuesIn } from "../../../src/simulation/outputs.ts"
import { foulIn, foulOf, judgeNumbersOf } from "../judges.ts"
import { defined, eventsFor, someOf, type Work } from "../work.ts"

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

export const reminders = (dice: Dice): Work => {
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
  const sent = someOf(dice, (number): Visit => ({ visitor: `visitor ${dice.whole(0, 5)}`, number }))
  return {
    job: reminding,
    events: eventsFor(visits, 2, sent),
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
