// Goal: nothing that has come behind a jump is seen before the leader has said that the jump is no loss, or comes twice when it never says it.
// Method: the buffer and the jumps of a reader by themselves, moved step by step.
import type { Msg } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { expect, test } from "vitest"
import { MessageBuffer } from "../../src/source/jetstream-buffer.ts"
import { Jumps } from "../../src/source/jetstream-jumps.ts"
import { Arrival } from "../../src/source/jetstream-message.ts"

const place = { topic: "S", partition: 0, stream: "S" }

const bufferWith = (...positions: readonly number[]) => {
  const buffer = new MessageBuffer()
  const push = (...more: readonly number[]): void => {
    for (const position of more) {
      const data = new Uint8Array(10)
      const message = { data, subject: "s", _msg: { hdr: 0 }, _rdata: data } as unknown as Msg
      buffer.push(Object.assign(new Arrival(), { position, publishedAt: position }), message)
    }
  }
  push(...positions)
  const read = (after: number, countMax = 100, bytesMax = 1_000) =>
    buffer.take(place, { after, countMax, bytesMax }).map(({ position }) => position)
  return { buffer, push, read }
}

test("P3 what is hidden is not read, not behind anything, and not enough", () => {
  const { buffer, push, read } = bufferWith(1, 2)
  expect({ read: read(0), behind: buffer.hasBehind(0) }).toEqual({ read: [], behind: false })
  buffer.showAll()
  push(5, 6, 7)
  expect({ read: read(0), behind: buffer.hasBehind(2) }).toEqual({ read: [1, 2], behind: false })
  expect(buffer.isEnough({ after: 0, countMax: 3, bytesMax: 1_000 })).toBe(false)
  expect(buffer.isEnough({ after: 0, countMax: 100, bytesMax: 30 })).toBe(false)
  expect(buffer.count, "the server is asked for a bounded part, hidden or not").toBe(3)
  buffer.show(6)
  expect({ read: read(2), behind: buffer.hasBehind(6) }).toEqual({ read: [5, 6], behind: false })
  expect(buffer.isEnough({ after: 2, countMax: 2, bytesMax: 1_000 })).toBe(true)
  buffer.showAll()
  expect(read(6)).toEqual([7])
})

test("I1 what was hidden and comes again, because the consumer was lost, comes once", () => {
  for (const readUpTo of [0, 2]) {
    const { buffer, push, read } = bufferWith(1, 2)
    buffer.showAll()
    expect(read(readUpTo)).toEqual(readUpTo === 0 ? [1, 2] : [])
    push(5, 6)
    buffer.dropHidden()
    expect(buffer.count).toBe(0)
    push(5, 6)
    buffer.showAll()
    expect(read(2)).toEqual([5, 6])
    expect(buffer.bytes).toBe(0)
  }
})

const at = (position: number) => ({ position, publishedAt: position })

test("P3 jumps that come while one is asked about are asked about next, from the first of them on", async () => {
  const jumps = new Jumps()
  const waiting = Effect.runFork(jumps.came)
  expect(jumps.heldBehind).toBe(undefined)
  jumps.from(at(3))
  await Effect.runPromise(Fiber.join(waiting))
  jumps.from(at(9))
  jumps.from(at(12))
  expect(jumps.heldBehind).toEqual(at(3))
  jumps.clear()
  expect(jumps.heldBehind, "what came between the two is verified").toEqual(at(9))
  await Effect.runPromise(jumps.came)
  jumps.clear()
  expect(jumps.heldBehind).toBe(undefined)
  jumps.from(at(20))
  jumps.from(at(25))
  jumps.forget()
  jumps.clear()
  expect(jumps.heldBehind, "of a consumer that was lost nothing is held").toBe(undefined)
})
