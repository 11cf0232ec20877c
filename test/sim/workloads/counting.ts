/** Every event one result: order per key, and each state once. */
import { job, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import type { Dice } from "../../../src/simulation/dice.ts"
import { valuesIn } from "../../../src/simulation/outputs.ts"
import { isSame } from "../judges.ts"
import { defined, eventsFor, someOf, type Work } from "../work.ts"

interface Payment {
  readonly card: string
  readonly number: number
}

interface Count extends Payment {
  readonly count: number
}

export const counting = (dice: Dice): Work => {
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
  const sent = someOf(dice, (number): Payment => ({ card: `card ${dice.whole(0, 6)}`, number }))
  return {
    job: counted,
    events: eventsFor(payments, 3, sent),
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
