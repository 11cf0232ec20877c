/**
 * A card is used too often or for too much: in any 10 minutes, 6 payments or more, or more than 3,000.00. One alert when a limit is
 * crossed; the next only after the card has been below it again.
 */
import { defineActor } from "keyfold"
import { avro } from "keyfold/codecs/avro"
import { type Alert, alertFor, money, type Payment } from "./payment.ts"

interface Recent {
  readonly at: number
  readonly amount: number
}

/** The card's payments of the last 10 minutes, in order of time, and which limits they have crossed. */
export interface Velocity {
  readonly recent: readonly Recent[]
  readonly tooMany: boolean
  readonly tooMuch: boolean
}

const windowMs = 10 * 60_000
const countLimit = 6
const sumLimit = 3_000
/** A card that is used like this has long crossed a limit; what is older need not be kept. */
const recentMax = 200

const velocityCodec = avro<Velocity>({
  type: "record",
  name: "Velocity",
  namespace: "com.example.fraud",
  fields: [
    {
      name: "recent",
      type: {
        type: "array",
        items: {
          type: "record",
          name: "Recent",
          fields: [
            { name: "at", type: "long" },
            { name: "amount", type: "double" }
          ]
        }
      }
    },
    { name: "tooMany", type: "boolean" },
    { name: "tooMuch", type: "boolean" }
  ]
})

export const velocity = defineActor<string, Payment, Velocity, Alert>({
  name: "velocity",
  state: velocityCodec,
  timeout: "event-time",
  *run(_card, payments, state) {
    if (state.hasTimedOut) {
      state.remove()
      return
    }
    const before = state.getOption()
    const recent = [...(before?.recent ?? [])]
    let { tooMany, tooMuch } = before ?? { tooMany: false, tooMuch: false }
    for (const payment of payments) {
      insert(recent, payment)
      const sum = recent.reduce((total, { amount }) => total + amount, 0)
      const reasons: string[] = []
      if (recent.length >= countLimit && !tooMany) reasons.push(`${recent.length} payments within 10 minutes, the limit is ${countLimit}`)
      if (sum > sumLimit && !tooMuch) reasons.push(`${money(sum)} within 10 minutes, the limit is ${money(sumLimit)}`)
      if (reasons.length > 0) yield alertFor("velocity", payment, reasons.join("; "))
      tooMany = recent.length >= countLimit
      tooMuch = sum > sumLimit
    }
    state.update({ recent, tooMany, tooMuch })
    state.setTimeoutTimestamp(newestOf(recent), windowMs)
  }
})

/** In order of time, whatever the order of arrival; what is 10 minutes older than the newest leaves. */
const insert = (recent: Recent[], { at, amount }: Payment): void => {
  const later = recent.findIndex((other) => other.at > at)
  recent.splice(later === -1 ? recent.length : later, 0, { at, amount })
  const from = newestOf(recent) - windowMs
  const expired = recent.findIndex((other) => other.at > from)
  recent.splice(0, Math.max(expired, recent.length - recentMax))
}

const newestOf = (recent: readonly Recent[]): number => recent.at(-1)?.at ?? 0
