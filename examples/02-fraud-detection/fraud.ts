/**
 * Card payments in, alerts with reasons out. Two jobs read the same payments and write the same alerts: one looks at an account's payments
 * in their order, the other at how a card is used over 10 minutes.
 */
import { job, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { type Alert, type Payment, paymentCodec } from "./payment.ts"
import { smallThenLarge } from "./small-then-large.ts"
import { velocity } from "./velocity.ts"

/** What comes in. What is no payment goes to the dead letters of each job, and the jobs go on. */
export const payments = topic("payments", { codec: paymentCodec, key: (payment) => payment.account, partitions: 16 })

/** What comes out, for people and other services: JSON. */
export const alerts = topic("alerts", { codec: json<Alert>(), key: (alert) => alert.account })

/** Payments that came when their time had passed (at or below the watermark), once for each job. */
export const latePayments = topic("late-payments", { codec: paymentCodec, key: (payment) => payment.account, partitions: 1 })

const timeOf = (payment: Payment): number => payment.at

export default job("small-then-large")
  .from(payments)
  // Payments may be up to 10 seconds out of order; time ("the watermark") follows the newest payment at that distance.
  .withWatermark(timeOf, "10 seconds", { late: latePayments })
  .groupByKey()
  .actor(smallThenLarge("event-time"))
  .to(alerts)

export const velocityOfCards = job("velocity")
  .from(payments)
  .withWatermark(timeOf, "10 seconds", { late: latePayments })
  .groupByKey((payment) => payment.card) // not the topic's key: payments go to their card's partition through a topic of the job's own
  .actor(velocity)
  .to(alerts)
