// Goal: what travels in headers is settled before the commit and stays the same however often it is published (X3), and a publish span ends
// when its outputs are out, also where that is later than the commit.
// Method: a runtime over memory() whose journal keeps outboxes, as a journal apart from the topics does; its sink fails when told to.
import * as Effect from "effect/Effect"
import { KeyfoldError, type Runtime, start } from "keyfold"
import { memory } from "keyfold/testing"
import { expect, test } from "vitest"
import type { NewRecord } from "../../src/model/record.ts"
import { emptyOutbox, type Unpublished } from "../../src/model/turn.ts"
import { connectorOf, makeRuntime, type Ports } from "../../src/ports.ts"
import { closed, counting, headersIn, installSdk, partsOf, publishAll, underSpan, visits } from "../fixtures/tracing.ts"

interface Apart {
  readonly runtime: Runtime
  /** What was handed to the sink for a topic, try by try. */
  readonly tries: (topic: string) => readonly (readonly NewRecord[])[]
  failing: boolean
}

/** Outputs leave after the commit, and are kept until they are confirmed. */
const apart = (): Apart => {
  const base = connectorOf(memory())
  const kept = new Map<string, Unpublished[]>()
  const tries: (readonly NewRecord[])[] = []
  const nameOf = ({ stage, partition }: { readonly stage: string; readonly partition: number }) => `${stage}/${partition}`
  const portsOf = (ports: Ports): Ports => ({
    ...ports,
    messagingSystem: "nats",
    sink: {
      ...ports.sink,
      publish: (records) => {
        tries.push(records)
        return made.failing ? Effect.fail(new KeyfoldError("unreachable", "the sink is away")) : ports.sink.publish(records)
      }
    },
    journal: {
      ...ports.journal,
      open: (owner, fingerprint) =>
        Effect.map(ports.journal.open(owner, fingerprint), (head) => ({ ...head, unpublished: kept.get(nameOf(owner)) ?? [] })),
      commit: (owner, turn) =>
        Effect.map(ports.journal.commit(owner, { ...turn, outbox: emptyOutbox }), () => {
          const { revision, outbox } = turn
          if (outbox.records.length > 0) kept.set(nameOf(owner), [...(kept.get(nameOf(owner)) ?? []), { revision, outbox }])
          return outbox
        }),
      confirm: (owner, revision) =>
        Effect.sync(() => {
          kept.set(
            nameOf(owner),
            (kept.get(nameOf(owner)) ?? []).filter((turn) => turn.revision > revision)
          )
        })
    }
  })
  const made: Apart = {
    runtime: makeRuntime("apart", { query: (limits) => Effect.map(base.query(limits), portsOf), client: base.client }),
    tries: (topic) => tries.map((records) => records.filter((record) => record.topic === topic)).filter((records) => records.length > 0),
    failing: false
  }
  return made
}

const run = async ({ runtime }: Apart): Promise<void> => {
  const query = await start(counting("apart"), { runtime, trigger: "available-now", atEnd: "close" })
  await query.awaitTermination()
}

test("X3: outputs that leave after the commit carry what was committed, and their span ends when they are out", async () => {
  using sdk = installSdk()
  const place = apart()
  await underSpan("request", () => publishAll(place.runtime, visits, [{ user: "u", group: "a", at: 1 }]))
  await run(place)
  const [headers] = await headersIn(place.runtime, closed)
  const sent = sdk.with(partsOf(headers).spanId)
  expect([sent.name, sent.ended, sent.status.code]).toEqual(["publish closed", true, 0])
  expect(sent.attributes).toMatchObject({ "messaging.system": "nats", "messaging.batch.message_count": 1 })
  expect(sent.attributes["messaging.destination.partition.id"]).toBe("0")
  // The turn has ended before its outputs were out.
  const turn = sdk.with(sent.parentSpanContext?.spanId)
  expect(sdk.spans.indexOf(turn)).toBeLessThan(sdk.spans.indexOf(sent))
})

test("X3, P7: outputs that could not be brought out are published again with the same headers, and the lost span says why", async () => {
  using sdk = installSdk()
  const place = apart()
  const request = await underSpan("request", () => publishAll(place.runtime, visits, [{ user: "u", group: "a", at: 1 }]))
  place.failing = true
  await expect(run(place)).rejects.toMatchObject({ code: "unreachable" })
  const [first] = place.tries("apart~count")
  const lost = sdk.with(partsOf(first?.[0]?.headers).spanId)
  expect(lost.status).toMatchObject({ code: 2, message: "unreachable" })
  expect(lost.attributes["error.type"]).toBe("unreachable")

  place.failing = false
  await run(place)
  const [, again] = place.tries("apart~count")
  expect(again).toEqual(first)
  expect([...(again?.[0]?.headers ?? [])]).toEqual([...(first?.[0]?.headers ?? [])])
  // Nothing of the way is missing: the result is still of the request's trace.
  const [headers] = await headersIn(place.runtime, closed)
  expect(partsOf(headers).traceId).toBe(request.traceId)
})
