/**
 * What the example must do on whatever runtime it is given. Each case has topics and jobs of its own, so that all of them may share one
 * store, which must be empty. They throw what does not hold.
 */
import assert from "node:assert/strict"
import { type Job, publisher, type Runtime, read, start, type Topic, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { text } from "keyfold/codecs/text"
import fraud, { alerts, payments, velocityOfCards } from "./fraud.ts"
import type { Payment } from "./payment.ts"
import { paymentCodec } from "./payment.ts"
import { dayOfPayments } from "./payments.ts"
import walkthrough, {
  eventTimeAlerts,
  transactions,
  walkthroughAlerts,
  walkthroughByEventTime,
  walkthroughPayments
} from "./walkthrough.ts"

export const fraudCases: Readonly<Record<string, (runtime: Runtime) => Promise<void>>> = {
  "a day of payments gives an alert for each fraud and none else, and rubbish is in the dead letters": async (runtime) => {
    const day = dayOfPayments({ seed: 1, lines: 3_000 })
    await publishLines(runtime, day.lines)
    await Promise.all([fraud, velocityOfCards].map((job) => runThrough(runtime, job)))
    const found = (await valuesOf(runtime, alerts)).map(({ rule, account }) => `${rule} ${account}`)
    assert.deepEqual(found.toSorted(), day.frauds.map((fraud) => fraud.join(" ")).toSorted())
    for (const job of [fraud, velocityOfCards]) {
      const dead = topic(`${job.name}-dead`, { codec: json<{ readonly code: string }>(), key: () => null })
      assert.deepEqual(
        (await valuesOf(runtime, dead)).map(({ code }) => code),
        new Array(day.rubbish).fill("decode-failed")
      )
    }
  },

  "Flink's walkthrough gives one alert a round, and none by the payments' own time": async (runtime) => {
    const [together, oneByOne] = [walkthroughPayments(2), walkthroughPayments(3).slice(100)]
    await publishPayments(runtime, together)
    await Promise.all([walkthrough, walkthroughByEventTime].map((job) => runThrough(runtime, job)))
    assert.deepEqual(await walkthroughAlertsOf(runtime), ["3 871.15", "3 871.15"])
    {
      await using query = await start(walkthrough, { runtime })
      await using byEventTime = await start(walkthroughByEventTime, { runtime })
      for (const payment of oneByOne) {
        await publishPayments(runtime, [payment])
        await Promise.all([query.processAllAvailable(), byEventTime.processAllAvailable()])
      }
    }
    assert.deepEqual(await walkthroughAlertsOf(runtime), ["3 871.15", "3 871.15", "3 871.15"])
    assert.deepEqual(await valuesOf(runtime, eventTimeAlerts), [])
  }
}

const walkthroughAlertsOf = async (runtime: Runtime): Promise<readonly string[]> =>
  (await valuesOf(runtime, walkthroughAlerts)).map(({ account, amount }) => `${account} ${amount}`)

/** All that is there, with every timeout that is armed at the end. */
const runThrough = async (runtime: Runtime, job: Job): Promise<void> => {
  await using query = await start(job, { runtime, trigger: "available-now", atEnd: "close" })
  await query.awaitTermination()
}

const valuesOf = async <T, K>(runtime: Runtime, from: Topic<T, K>): Promise<readonly T[]> => {
  const values: T[] = []
  for await (const { value } of read(runtime, from)) values.push(value)
  return values
}

const publishPayments = async (runtime: Runtime, all: readonly Payment[]): Promise<void> => {
  await using out = await publisher(runtime, transactions)
  for (const payment of all) void out.send(payment) // what fails is raised by flush()
  await out.flush()
}

/** As the command publishes a file: what is no payment goes as it is. */
const publishLines = async (runtime: Runtime, lines: readonly string[]): Promise<void> => {
  const rubbish = topic(payments.name, { codec: text(), key: () => "rubbish", partitions: payments.partitions })
  await using out = await publisher(runtime, payments)
  await using asItIs = await publisher(runtime, rubbish)
  for (const line of lines) {
    const payment = paymentIn(line)
    void (payment === undefined ? asItIs.send(line) : out.send(payment))
  }
  await Promise.all([out.flush(), asItIs.flush()])
}

const paymentIn = (line: string): Payment | undefined => {
  try {
    const value = JSON.parse(line) as Payment
    paymentCodec.encode(value)
    return value
  } catch {
    return undefined
  }
}
