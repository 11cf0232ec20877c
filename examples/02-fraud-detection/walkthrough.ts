/**
 * The data of Apache Flink's fraud detection walkthrough, and its rule with either clock. The 50 payments are 6 minutes apart and come round
 * again and again; read faster than they were made, as the walkthrough does, each round has one alert: account 3, 0.80 then 871.15. By their
 * own time these two are half an hour apart, and there is none.
 */
import { job, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { type Alert, type Payment, paymentCodec } from "./payment.ts"
import { smallThenLarge } from "./small-then-large.ts"

/** Of accounts 1 to 5 in turn. */
const amounts = [
  [188.23, 374.79, 112.15, 478.75, 208.85],
  [379.64, 351.44, 320.75, 259.42, 273.44],
  [267.25, 397.15, 0.219, 231.94, 384.73],
  [419.62, 412.91, 0.77, 22.1, 377.54],
  [375.44, 230.18, 0.8, 350.89, 127.55],
  [483.91, 228.22, 871.15, 64.19, 79.43],
  [56.12, 256.48, 148.16, 199.95, 252.37],
  [274.73, 473.54, 119.92, 323.59, 353.16],
  [211.9, 280.93, 347.89, 459.86, 82.31],
  [373.26, 479.83, 454.25, 83.64, 292.44]
].flat()

const firstMs = Date.UTC(2019, 0, 1)
const everyMs = 6 * 60_000

/** So many rounds of the 50 payments. */
export const walkthroughPayments = (rounds: number): readonly Payment[] =>
  Array.from({ length: rounds * amounts.length }, (_, index) => {
    const account = String((index % 5) + 1)
    const amount = amounts[index % amounts.length] as number
    return { id: `t${index}`, account, card: `card-${account}`, merchant: "walkthrough", amount, at: firstMs + index * everyMs }
  })

export const transactions = topic("transactions", { codec: paymentCodec, key: (payment) => payment.account, partitions: 5 })
export const walkthroughAlerts = topic("walkthrough-alerts", { codec: json<Alert>(), key: (alert) => alert.account, partitions: 1 })
export const eventTimeAlerts = topic("event-time-alerts", { codec: json<Alert>(), key: (alert) => alert.account, partitions: 1 })

/** As in the walkthrough: the flag falls after a minute of the machine's time. */
export default job("walkthrough").from(transactions).groupByKey().actor(smallThenLarge("processing-time")).to(walkthroughAlerts)

export const walkthroughByEventTime = job("walkthrough-by-event-time")
  .from(transactions)
  .withWatermark((payment) => payment.at, "0 seconds")
  .groupByKey()
  .actor(smallThenLarge("event-time"))
  .to(eventTimeAlerts)
