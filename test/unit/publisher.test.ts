// Goal: nothing that is sent is lost in silence, whether its promise is awaited or not, and no process dies of an unhandled rejection.
// Method: a publisher on memory(); unhandled rejections are counted by the process itself.
import { job, publisher, read, start, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { memory } from "keyfold/testing"
import { afterEach, beforeEach, expect, test } from "vitest"

const numbers = topic("numbers", { codec: json<number>(), key: (value) => `${value}`, partitions: 1 })

let unhandled: unknown[] = []
const note = (thrown: unknown) => unhandled.push(thrown)
beforeEach(() => {
  unhandled = []
  process.on("unhandledRejection", note)
})
afterEach(() => process.off("unhandledRejection", note))

const valuesOf = async (runtime: ReturnType<typeof memory>): Promise<number[]> => {
  const values: number[] = []
  for await (const { value } of read(runtime, numbers)) values.push(value)
  return values
}

const settled = () => new Promise((resolve) => setImmediate(resolve))

test("sends that are not awaited keep their order, and flush waits for all of them", async () => {
  const runtime = memory()
  const out = await publisher(runtime, numbers)
  const sent = Array.from({ length: 10_000 }, (_, index) => index)
  for (const value of sent) void out.send(value)
  await out.flush()
  expect(await valuesOf(runtime)).toEqual(sent)
})

test("a refused send that nobody awaits is no unhandled rejection, and the flush tells of it", async () => {
  const runtime = memory()
  const out = await publisher(runtime, numbers)
  void out.send(1)
  void out.send(Number.NaN)
  void out.send(2)
  await expect(out.flush()).rejects.toMatchObject({ code: "encode-failed" })
  await out.flush()
  await settled()
  expect(unhandled).toEqual([])
  expect(await valuesOf(runtime)).toEqual([1, 2])
})

test("a refused send that somebody awaits is told once: neither flush nor dispose throws it again", async () => {
  const out = await publisher(memory(), numbers)
  await expect(out.send(Number.NaN)).rejects.toMatchObject({ code: "encode-failed" })
  await out.flush()
  await out[Symbol.asyncDispose]()
})

test("disposing waits for what was sent, and what is sent after it is refused", async () => {
  const runtime = memory()
  const out = await publisher(runtime, numbers)
  void out.send(1)
  const disposing = out[Symbol.asyncDispose]()
  await expect(out.send(2)).rejects.toMatchObject({ code: "unsupported-operation" })
  await disposing
  expect(await valuesOf(runtime)).toEqual([1])
})

test("a codec that uses its buffer again changes nothing that was sent", async () => {
  const shared = new Uint8Array(1)
  const reusing = topic("reused", {
    codec: {
      contentType: "",
      fingerprint: "reusing/1",
      encode: (value: number) => {
        shared[0] = value
        return shared
      },
      decode: (bytes: Uint8Array) => bytes[0] as number
    },
    key: (value) => value,
    partitions: 1
  })
  const runtime = memory()
  const out = await publisher(runtime, reusing)
  for (const value of [1, 2, 3]) void out.send(value)
  await out.flush()
  const values: number[] = []
  for await (const { value } of read(runtime, reusing)) values.push(value)
  expect(values).toEqual([1, 2, 3])
})

test("reading without follow ends at the end as it was, though somebody goes on publishing", async () => {
  const runtime = memory()
  const out = await publisher(runtime, numbers)
  for (let value = 0; value < 10; value++) await out.send(value)
  const values: number[] = []
  for await (const { value } of read(runtime, numbers)) {
    values.push(value)
    await out.send(100 + value)
  }
  expect(values).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
})

test("a reader that follows can be left while it waits", async () => {
  const runtime = memory()
  const out = await publisher(runtime, numbers)
  await out.send(1)
  const reading = read(runtime, numbers, { follow: true })[Symbol.asyncIterator]()
  expect((await reading.next()).value?.value).toBe(1)
  const waiting = reading.next()
  await reading.return?.()
  expect((await waiting).done).toBe(true)
})

test("a sink that hangs does not hold a stop for ever", async () => {
  const { foreachTurn } = await import("keyfold")
  const runtime = memory()
  const hanging = job("hanging")
    .from(numbers)
    .to(foreachTurn<number>("nowhere", () => new Promise(() => undefined)))
  const out = await publisher(runtime, numbers)
  const query = await start(hanging, { runtime, limits: { turnEventsMax: 1 } })
  for (let value = 0; value < 20; value++) await out.send(value)
  const began = performance.now()
  await query.stop()
  expect(performance.now() - began).toBeLessThan(30_000)
  expect(query.isActive).toBe(false)
})
