// Goal: what a writer's line believes of a server, where servers may answer from the past.
// Method: a link of our own that answers as servers do.
import * as Effect from "effect/Effect"
import { expect, test } from "vitest"
import type { Asking } from "../../src/sink/jetstream-look.ts"
import type { JetStreamLink } from "../../src/sink/jetstream-publish.ts"
import { WriterLine } from "../../src/sink/jetstream-writer.ts"

const results = { topic: "results", partition: 0 }

/** Answers each look with the next of these numbers, the last one for ever; counts the looks. */
const answering = (numbers: readonly number[], isClustered: boolean): Asking & { readonly looks: () => number } => {
  let looks = 0
  const answer = () => {
    const number = numbers[Math.min(looks++, numbers.length - 1)] as number
    const hdrs = Buffer.from(`NATS/1.0\r\nkf-n: ${number}\r\n\r\n`).toString("base64")
    return { data: Buffer.from(JSON.stringify({ message: { seq: number, hdrs } })) }
  }
  const link = { isClustered, up: Effect.void, ask: () => Effect.sync(answer) } as unknown as JetStreamLink
  return { link, apiPrefix: "$JS.API", looks: () => looks }
}

const lastNumber = (asking: Asking, least: number): Promise<number> =>
  Effect.runPromise(new WriterLine(asking, results, "w").lastNumber(least))

// A leader that was deposed a moment ago may answer what was. A take-over that believed it would stop the query with output-fate-unknown,
// though nothing is lost.
test("P4 an answer below what is confirmed is asked for again in a cluster", async () => {
  expect(await lastNumber(answering([3, 4, 5], true), 5)).toBe(5)
  const single = answering([3, 5], false)
  expect({ number: await lastNumber(single, 5), looks: single.looks() }).toEqual({ number: 3, looks: 1 })
  const sufficient = answering([5], true)
  expect({ number: await lastNumber(sufficient, 5), looks: sufficient.looks() }).toEqual({ number: 5, looks: 1 })
})

test("P4 what stays below is the truth, and answered after a while", { timeout: 90_000 }, async () => {
  expect(await lastNumber(answering([3], true), 5)).toBe(3)
})
