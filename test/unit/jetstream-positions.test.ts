// Goal: where reading begins, while others publish: no record is passed over that comes in the middle of the question.
// Method: a stream of our own that answers as servers do, and grows between two of its answers.
import type { NatsConnection } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import { expect, test } from "vitest"
import { JetStreamApi } from "../../src/source/jetstream-api.ts"
import { positionBefore, resumeAfter } from "../../src/source/jetstream-positions.ts"

const publishedAt = 1_700_000_000_000

interface Growing {
  readonly api: JetStreamApi
  readonly asked: () => number
}

/** Records 1 to `last` were there and are gone; one more comes before the question with this number is answered. */
const growing = (last: number, comesBefore: number): Growing => {
  let asked = 0
  const request = async (subject: string, body: string): Promise<{ readonly json: () => unknown }> => {
    asked += 1
    const end = last + (asked >= comesBefore ? 1 : 0)
    const answer = subject.includes("STREAM.INFO") ? info(end) : message(end, JSON.parse(body).seq)
    return { json: () => answer }
  }
  const info = (end: number): object => ({ created: "c", config: {}, state: { first_seq: end === 0 ? 0 : last + 1, last_seq: end } })
  const message = (end: number, from: number): object =>
    end > last && from <= end
      ? { message: { seq: end, time: new Date(publishedAt).toISOString() } }
      : { error: { code: 404, err_code: 10_037, description: "no message found" } }
  return { api: new JetStreamApi({ request } as unknown as NatsConnection), asked: () => asked }
}

const questions = {
  "I9 the earliest": (api: JetStreamApi, _last: number) => resumeAfter(api, "s", 0),
  "I9 behind what was read": (api: JetStreamApi, last: number) => resumeAfter(api, "s", last),
  "by time": (api: JetStreamApi, _last: number) => positionBefore(api, "s", publishedAt)
}

test.each(Object.entries(questions))("%s: a record that is published meanwhile is read, whenever it comes", async (_, question) => {
  for (const last of [0, 1, 7]) {
    for (let comesBefore = 1; ; comesBefore++) {
      const { api, asked } = growing(last, comesBefore)
      expect(await Effect.runPromise(question(api, last)), `behind ${last}, before question ${comesBefore}`).toBe(last)
      if (asked() < comesBefore) break
    }
  }
})
