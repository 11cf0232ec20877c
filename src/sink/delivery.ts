/**
 * Brings committed outboxes out: records through the sink, values to the custom sinks of `foreachTurn`. One turn at a time, in order, per
 * partition; a failing `write` is tried again, then stops the query. Until it is confirmed the journal keeps the outbox, so a crash
 * repeats it under the same turn id.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { KeyfoldError, reasonOf } from "../errors.ts"
import { decodeEnvelope } from "../model/envelope.ts"
import type { NewRecord, TopicPartition } from "../model/record.ts"
import type { ForeachDefinition } from "../model/topic.ts"
import type { Delivery, Outbox } from "../model/turn.ts"

export interface DeliveryParts {
  /** Names the partition in turn ids: query/stage/partition. */
  readonly journal: string
  readonly partition: number
  readonly turnsInFlightMax: number
  readonly sinks: ReadonlyMap<string, ForeachDefinition>
  readonly publish: (records: readonly NewRecord[]) => Effect.Effect<void, KeyfoldError>
  readonly lastNumber: (of: TopicPartition, least: number) => Effect.Effect<number, KeyfoldError>
  readonly confirm: (revision: number) => Effect.Effect<void, KeyfoldError>
}

interface Turn {
  readonly revision: number
  readonly outbox: Outbox
}

const attemptsMax = 8
const backOffMs = 50
const backOffMsMax = 5_000

/** A publisher whose work goes on in the scope; its first failure fails every later call, and `failed`. */
export const makeDelivery = Effect.fnUntraced(function* (parts: DeliveryParts) {
  const queue = yield* Queue.unbounded<Turn>()
  const failed = yield* Deferred.make<never, KeyfoldError>()
  const waiting = new Set<{ readonly most: number; readonly done: () => void }>()
  let open = 0

  const work = Effect.gen(function* () {
    for (;;) {
      const turn = yield* Queue.take(queue)
      yield* bringOut(parts, turn)
      open -= 1
      for (const waiter of [...waiting]) {
        if (open <= waiter.most && waiting.delete(waiter)) waiter.done()
      }
    }
  })
  // Also a bug of ours must reach somebody: without its worker the partition would wait for ever.
  yield* Effect.forkScoped(Effect.catchCause(work, (cause) => Deferred.failCause(failed, cause)))

  const publish = (revision: number, outbox: Outbox): Effect.Effect<void, KeyfoldError> => {
    if (outbox.records.length === 0 && outbox.deliveries.length === 0) return Effect.void
    open += 1
    return Effect.asVoid(Queue.offer(queue, { revision, outbox }))
  }
  /** Calls back once, when at most so many turns are on their way, be it at once. Answers how to stop waiting. */
  const when = (most: number, done: () => void): (() => void) => {
    const waiter = { most, done }
    if (open <= most) done()
    else waiting.add(waiter)
    return () => void waiting.delete(waiter)
  }
  const until = (most: number): Effect.Effect<void, KeyfoldError> =>
    Effect.suspend(() => {
      if (open <= most) return Effect.void
      const reached = Effect.callback<void>((resume) => Effect.sync(when(most, () => resume(Effect.void))))
      return Effect.raceFirst(reached, Deferred.await(failed))
    })
  return {
    publish,
    room: () => until(parts.turnsInFlightMax - 1),
    hasRoom: () => open < parts.turnsInFlightMax,
    settled: () => until(0),
    whenSettled: (call: () => void) => when(0, call),
    isSettled: () => open === 0,
    failed: Deferred.await(failed),
    lastNumber: parts.lastNumber
  }
}) satisfies (parts: DeliveryParts) => Effect.Effect<unknown, never, Scope.Scope>

const bringOut = Effect.fnUntraced(function* (parts: DeliveryParts, turn: Turn) {
  if (turn.outbox.records.length > 0) yield* parts.publish(turn.outbox.records)
  for (const delivery of turn.outbox.deliveries) yield* deliver(parts, turn.revision, delivery)
  yield* parts.confirm(turn.revision)
})

const deliver = Effect.fnUntraced(function* (parts: DeliveryParts, revision: number, delivery: Delivery) {
  const sink = parts.sinks.get(delivery.sink)
  if (sink === undefined) {
    return yield* Effect.fail(
      new KeyfoldError(
        "schema-incompatible",
        `the journal holds values for the sink ${delivery.sink}, which the job no longer has: put it back until they are out`
      )
    )
  }
  const values = delivery.values.map(deliveredValue)
  const id = `${parts.journal}/${revision}`
  for (let attempt = 1; ; attempt++) {
    const failure = yield* attemptWrite(sink, values, { id, partition: parts.partition })
    if (failure === undefined) return
    if (attempt === attemptsMax) {
      const message = `the sink ${sink.name} has failed ${attemptsMax} times with turn ${id}: ${reasonOf(failure.thrown)}`
      return yield* Effect.fail(new KeyfoldError("function-failed", message, { cause: failure.thrown }))
    }
    yield* Effect.sleep(Math.min(backOffMsMax, backOffMs * 2 ** (attempt - 1)))
  }
})

const attemptWrite = (
  sink: ForeachDefinition,
  values: readonly unknown[],
  turn: { readonly id: string; readonly partition: number }
): Effect.Effect<{ readonly thrown: unknown } | undefined> =>
  Effect.promise(async () => {
    try {
      await sink.write(values, turn)
      return undefined
    } catch (thrown) {
      return { thrown }
    }
  })

const deliveredValue = (payload: Uint8Array): unknown => {
  const envelope = decodeEnvelope(payload)
  return envelope.kind === "row" ? envelope.value : undefined
}
