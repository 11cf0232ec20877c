/**
 * What the example must do on whatever runtime it is given. Each case has topics and jobs of its own, so that all of them may share one
 * store, which must be empty. `workers` start each job; more than one share it where the runtime lets them. They throw what does not hold.
 */
import assert from "node:assert/strict"
import { type Job, publisher, type Query, type Runtime, read, type StartOptions, start, type Topic, topic } from "keyfold"
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

export const fraudCases: Readonly<Record<string, (runtime: Runtime, workers?: number) => Promise<void>>> = {
  "a day of payments gives an alert for each fraud and none else, and rubbish is in the dead letters": async (runtime, workers = 1) => {
    const day = dayOfPayments({ seed: 1, lines: 3_000 })
    await publishLines(runtime, day.lines)
    await Promise.all([fraud, velocityOfCards].map((job) => runThrough(runtime, job, workers)))
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

  "Flink's walkthrough gives one alert a round, and none by the payments' own time": async (runtime, workers = 1) => {
    const [together, oneByOne] = [walkthroughPayments(2), walkthroughPayments(3).slice(100)]
    await publishPayments(runtime, together)
    await Promise.all([walkthrough, walkthroughByEventTime].map((job) => runThrough(runtime, job, workers)))
    assert.deepEqual(await walkthroughAlertsOf(runtime), ["3 871.15", "3 871.15"])
    const queries = [...(await startAll(runtime, walkthrough, workers)), ...(await startAll(runtime, walkthroughByEventTime, workers))]
    // Several workers tell each other how far they are a few times a second.
    const count = workers === 1 ? 1 : 10
    for (let from = 0; from < oneByOne.length; from += count) {
      await publishPayments(runtime, oneByOne.slice(from, from + count))
      await Promise.all(queries.map((query) => query.processAllAvailable()))
    }
    await Promise.all(queries.map((query) => query.stop()))
    assert.deepEqual(await walkthroughAlertsOf(runtime), ["3 871.15", "3 871.15", "3 871.15"])
    assert.deepEqual(await valuesOf(runtime, eventTimeAlerts), [])
  }
}

const walkthroughAlertsOf = async (runtime: Runtime): Promise<readonly string[]> =>
  (await valuesOf(runtime, walkthroughAlerts)).map(({ account, amount }) => `${account} ${amount}`)

/** All that is there, with every timeout that is armed at the end. */
const runThrough = async (runtime: Runtime, job: Job, workers: number): Promise<void> => {
  const queries = await startAll(runtime, job, workers, { trigger: "available-now", atEnd: "close" })
  for (const query of queries) await query.awaitTermination()
}

const startAll = (runtime: Runtime, job: Job, workers: number, options: Partial<StartOptions> = {}): Promise<readonly Query[]> =>
  Promise.all(Array.from({ length: workers }, () => start(job, { ...options, runtime })))

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
