/**
 * Somebody tries a stolen card with a small payment, and empties it with the next: the rule of Apache Flink's fraud detection walkthrough.
 * A payment below 1.00 raises a flag; if the account's next payment is above 500.00 and comes within a minute, that is an alert. The flag
 * falls with the next payment, whatever it is, or after the minute.
 */
import { defineActor } from "keyfold"
import { avro } from "keyfold/codecs/avro"
import { type Alert, alertFor, money, type Payment } from "./payment.ts"

/** The flag: a small payment was the account's last. */
export interface Small {
  readonly amount: number
  /** By the clock of the rule. */
  readonly at: number
}

const smallBelow = 1
const largeAbove = 500
const flagMs = 60_000

const smallCodec = avro<Small>({
  type: "record",
  name: "Small",
  namespace: "com.example.fraud",
  fields: [
    { name: "amount", type: "double" },
    { name: "at", type: "long" }
  ]
})

/**
 * `clock` says whose minute it is: that of the payments, or that of the machine, which is what the walkthrough takes. They differ as soon as
 * payments are read later than they were made: in a test, or after an outage.
 */
export const smallThenLarge = (clock: "event-time" | "processing-time") =>
  defineActor<string, Payment, Small, Alert>({
    name: "small-then-large",
    state: smallCodec,
    timeout: clock,
    *run(_account, payments, state) {
      if (state.hasTimedOut) {
        state.remove()
        return
      }
      let small = state.getOption()
      for (const payment of payments) {
        const at = clock === "event-time" ? payment.at : state.getCurrentProcessingTimeMs()
        // Payments of one call may be minutes apart, and payments come before a timeout that is due (G10): the timeout alone is not enough.
        if (small !== undefined && payment.amount > largeAbove && at >= small.at && at - small.at <= flagMs) {
          yield alertFor("small-then-large", payment, reasonFor(small, payment.amount, at))
        }
        small = payment.amount < smallBelow ? { amount: payment.amount, at } : undefined
      }
      if (small === undefined) {
        state.remove()
        return
      }
      state.update(small)
      if (clock === "event-time") state.setTimeoutTimestamp(small.at, flagMs)
      else state.setTimeoutDuration(flagMs)
    }
  })

const reasonFor = (small: Small, large: number, at: number): string =>
  `${money(small.amount)} was tried first, then ${money(large)} taken ${Math.round((at - small.at) / 1_000)} s later, with nothing in between`
