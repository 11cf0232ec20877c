// Goal: however long state functions take, leases are prolonged between the turns of a worker's partitions.
// Method: 8 partitions with rows for longer than a burst may take; the rounds of the event loop are counted meanwhile.
import { job, publisher, start, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { memory } from "keyfold/testing"
import { expect, test } from "vitest"

const partitions = 8

// Symptom: a worker with 16 partitions and 4 s of work lost all its leases (2 s) five times over and did the work six times; 25 s passed.
// Cause: the states of all partitions came in one answer of Redis, so their calls ran one after the other in one round of the event loop.
test("P21: between the calls of two partitions the event loop goes round", async () => {
  let rounds = 0
  let isOver = false
  const count = (): void => {
    rounds += 1
    if (!isOver) setImmediate(count)
  }
  const calledAt: number[] = []
  const slow = job("slow")
    .from(topic("hits", { codec: json<number>(), key: (hit) => hit, partitions }))
    .groupByKey()
    .flatMapGroupsWithState({ state: json<number>() }, (_, found, state) => {
      calledAt.push(rounds)
      const endMs = performance.now() + 20
      while (performance.now() < endMs);
      state.update(found.length)
      return []
    })
    .to()
  const runtime = memory()
  await using out = await publisher(runtime, topic("hits", { codec: json<number>(), key: (hit: number) => hit, partitions }))
  for (let hit = 0; hit < 64; hit++) void out.send(hit)
  await out.flush()
  count()
  const query = await start(slow, { runtime, trigger: "available-now" })
  await query.awaitTermination()
  isOver = true
  // Keys of one turn are called without a pause: only a partition's first call of a turn comes after a breath.
  const turns = [...new Set(calledAt)]
  expect(calledAt).toHaveLength(64)
  expect(turns.length).toBeGreaterThanOrEqual(partitions - 1)
  for (const [index, at] of turns.slice(1).entries()) expect(at - (turns[index] as number), `turn ${index + 1}`).toBeGreaterThanOrEqual(10)
})
