// Goal: what waits for outputs to get out is told, once, and not when it has stopped waiting.
// Method: a delivery whose publishing the test lets through.
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { expect, test } from "vitest"
import { emptyOutbox } from "../../src/model/turn.ts"
import { makeDelivery } from "../../src/sink/delivery.ts"

const outbox = { ...emptyOutbox, records: [{ topic: "out", partition: 0, payload: new Uint8Array() }] as never }

test("P15: room while fewer than the most are on their way; settled when all are out", async () => {
  const said: string[] = []
  await Effect.runPromise(
    Effect.scoped(
      Effect.gen(function* () {
        const gate = yield* Deferred.make<void>()
        const delivery = yield* makeDelivery({
          journal: "j",
          partition: 0,
          turnsInFlightMax: 2,
          sinks: new Map(),
          publish: () => Deferred.await(gate),
          lastNumber: () => Effect.succeed(0),
          confirm: (revision) => Effect.sync(() => void said.push(`confirmed ${revision}`))
        })
        delivery.whenSettled(() => said.push("settled at once"))
        expect(delivery.hasRoom()).toBe(true)
        yield* delivery.publish(1, outbox)
        expect([delivery.hasRoom(), delivery.isSettled()]).toEqual([true, false])
        yield* delivery.publish(2, outbox)
        expect(delivery.hasRoom()).toBe(false)
        delivery.whenSettled(() => said.push("settled"))
        const forget = delivery.whenSettled(() => said.push("never"))
        forget()
        yield* Deferred.succeed(gate, undefined)
        yield* delivery.room()
        yield* delivery.settled()
        expect([delivery.hasRoom(), delivery.isSettled()]).toEqual([true, true])
        yield* Effect.yieldNow
      })
    )
  )
  expect(said).toEqual(["settled at once", "confirmed 1", "confirmed 2", "settled"])
})
