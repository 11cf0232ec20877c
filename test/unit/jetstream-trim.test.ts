// Goal: a topic is said to grow when the server does not let anything be removed, and not because nobody answers for a while.
// Method: a source over a server of our own, which is away, or says no to a purge, under a clock that the test moves.
import { type NatsConnection, PermissionViolationError } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { expect, test } from "vitest"
import type { KeyfoldError } from "../../src/errors.ts"
import { makeJetStreamSource } from "../../src/source/jetstream.ts"
import { topicHash } from "../../src/source/jetstream-topics.ts"
import type { Source } from "../../src/source/source.ts"

const topic = "sums~stage-2"
const description = JSON.stringify({ keyfold: { format: 1, topic, partitions: 1, hash: topicHash } })
const state = { first_seq: 1, last_seq: 9, subjects: { [`${topic}.0`]: 9 } }

/** What becomes of a purge; everything else is answered. */
type Purge = () => object

const away: Purge = () => {
  throw new Error("timeout")
}
const refusals: Readonly<Record<string, Purge>> = {
  "rights that are missing": () => {
    throw new PermissionViolationError("", "publish", `$JS.API.STREAM.PURGE.${topic}-0`)
  },
  "an error of the server": () => ({ error: { code: 400, err_code: 10_109, description: "invalid operation on sealed stream" } })
}

const serverThat = (purge: () => Purge): NatsConnection => {
  const status = async function* (): AsyncGenerator<never> {}
  const request = async (subject: string): Promise<{ readonly json: () => object }> => {
    const answer = subject.includes(".PURGE.") ? purge()() : { created: "2026-01-01T00:00:00Z", config: { description }, state }
    return { json: () => answer }
  }
  return { request, status, isClosed: () => false, getServer: () => "localhost:4222" } as unknown as NatsConnection
}

const failedTrim = Effect.fnUntraced(function* (source: Source["Service"]) {
  const trim = yield* Effect.forkChild(Effect.flip(source.trim({ topic, partition: 0 }, 5)))
  while (trim.pollUnsafe() === undefined) {
    yield* Effect.promise(() => new Promise((done) => setImmediate(done)))
    yield* TestClock.adjust(100)
  }
  return yield* Fiber.join(trim)
}) satisfies (source: Source["Service"]) => Effect.Effect<KeyfoldError, unknown>

for (const [name, refused] of Object.entries(refusals)) {
  // Symptom: whoever had no right to purge was never told, when NATS had been away before. Cause: the outage had used up the one warning.
  test(`P26 an outage is not said to make a topic grow, ${name} after it are, once`, () =>
    Effect.runPromise(
      Effect.provide(
        Effect.scoped(
          Effect.gen(function* () {
            const warnings: string[] = []
            let purge = away
            const warn = (message: string): void => void warnings.push(message)
            const source = yield* makeJetStreamSource(
              serverThat(() => purge),
              { replicas: 1, warn }
            )
            const lost = yield* failedTrim(source)
            expect([lost.code, lost.message]).toEqual(["unreachable", expect.stringContaining("timeout")])
            expect(warnings).toEqual([])
            purge = refused
            for (let times = 0; times < 2; times++) expect((yield* failedTrim(source)).code).toBe("unreachable")
            expect(warnings).toEqual([expect.stringMatching(new RegExp(`^rows of ${topic} .*it grows: .*It is tried again$`))])
          })
        ),
        TestClock.layer()
      )
    ))
}
