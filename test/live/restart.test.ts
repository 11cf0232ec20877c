// Goal: a query that is stopped, killed or refused goes on exactly where it was: state, watermark, timeouts, outputs; and its handle and
// its triggers do what they say.
// Method: real directories and, where two processes matter, real processes. Waits are for conditions. Rerun one case with SEED=<n>.
import { join } from "node:path"
import { foreachTurn, type Job, job, type KeyfoldError, publisher, type Query, read, start, type Topic, topic } from "keyfold"
import { json } from "keyfold/codecs/json"
import { embedded } from "keyfold/embedded"
import { describe, expect, test } from "vitest"
import { alarms, ring, rung } from "../fixtures/fire-timeouts.ts"
import { direct, requests, sessions } from "../fixtures/jobs.ts"
import { Child, freshDirectory, randomFrom, repository, seedOr, sleep, until } from "../fixtures/world.ts"

const seed = seedOr(7)

interface Event {
  readonly key: string
  readonly at: number
}
interface Count {
  readonly key: string
  readonly count: number
}

const eventsOf = (partitions: number, name = "events") => topic(name, { codec: json<Event>(), key: (event) => event.key, partitions })
const counts = topic("counts", { codec: json<Count>(), key: (count) => count.key, partitions: 1 })

const publish = async <T>(directory: string, to: Topic<T>, events: Iterable<T>): Promise<void> => {
  await using out = await publisher(embedded(directory), to)
  for (const event of events) void out.send(event)
  await out.flush()
}

const valuesOf = async <T>(directory: string, of: Topic<T>): Promise<T[]> => {
  const values: T[] = []
  for await (const { value } of read(embedded(directory), of)) values.push(value)
  return values
}

const bounded = async (directory: string, what: Job, options: Partial<Parameters<typeof start>[1]> = {}): Promise<Query> => {
  const query = await start(what, { runtime: embedded(directory), trigger: "available-now", ...options })
  await query.awaitTermination()
  return query
}

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "nothing was thrown",
    (thrown: KeyfoldError) => thrown.code
  )

/** Counts a key's events, one output per event, so that each event shows. */
const counting = (events: Topic<Event, string>, name = "counting") =>
  job(name)
    .from(events)
    .groupByKey()
    .flatMapGroupsWithState({ state: json<number>() }, function* (key, found, state) {
      let count = state.getOption() ?? 0
      for (const _ of found) yield { key, count: ++count }
      state.update(count)
    })
    .to(counts)

const range = (length: number): number[] => Array.from({ length }, (_, index) => index)

/** Each key's counts are 1, 2, 3 ... up to what was published. */
const expectCounted = (found: readonly Count[], published: number): void => {
  for (const [key, ofKey] of Map.groupBy(found, (count) => count.key)) {
    expect(
      ofKey.map(({ count }) => count),
      key
    ).toEqual(range(ofKey.length).map((index) => index + 1))
  }
  expect(found).toHaveLength(published)
}

describe("state, watermark and timeouts after a restart", () => {
  test("go on where they were", async () => {
    const directory = freshDirectory()
    const events = eventsOf(1)
    const late = topic("late", { codec: json<Event>(), key: (event) => event.key })
    const seen: [key: string, watermark: number, count: number][] = []
    const tracking = job("tracking")
      .from(events)
      .withWatermark((event) => event.at, 100, { late })
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>(), timeout: "event-time" }, function* (key, found, state) {
        seen.push([key, state.getCurrentWatermarkMs(), state.getOption() ?? 0])
        if (state.hasTimedOut) {
          yield { key, count: state.get() }
          state.remove()
          return
        }
        state.update((state.getOption() ?? 0) + found.length)
        state.setTimeoutTimestamp(Math.max(...found.map((event) => event.at)), 1_000)
      })
      .to(counts)
    await publish(directory, events, [
      { key: "a", at: 1_000 },
      { key: "a", at: 1_500 }
    ])
    await bounded(directory, tracking)
    await publish(directory, events, [
      { key: "a", at: 1_400 }, // at the watermark of the run before: late
      { key: "a", at: 1_600 }
    ])
    await bounded(directory, tracking)
    await publish(directory, events, [{ key: "b", at: 10_000 }])
    await bounded(directory, tracking)
    expect(seen).toEqual([
      ["a", 0, 0],
      ["a", 1_400, 2],
      ["b", 1_500, 0],
      ["a", 9_900, 3]
    ])
    expect(await valuesOf(directory, late)).toEqual([{ key: "a", at: 1_400 }])
    expect(await valuesOf(directory, counts)).toEqual([{ key: "a", count: 3 }])
  })

  test("20,000 processing-time timeouts that fell due while nobody ran fire once, though only 100 keys are resident (T2)", async () => {
    const directory = freshDirectory()
    const events = eventsOf(16)
    const ringing = job("ringing")
      .from(events)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>(), timeout: "processing-time" }, function* (key, _, state) {
        if (state.hasTimedOut) yield { key, count: state.get() }
        else {
          state.update(1)
          state.setTimeoutDuration(2_000)
        }
      })
      .to(counts)
    const limits = { residentKeysMax: 100 }
    await publish(
      directory,
      events,
      range(20_000).map((index) => ({ key: `k${index}`, at: 0 }))
    )
    await bounded(directory, ringing, { limits })
    const early = (await valuesOf(directory, counts)).length
    expect(early).toBeLessThan(20_000)
    await sleep(2_100)
    for (let run = 0; run < 2; run++) {
      const query = await start(ringing, { runtime: embedded(directory), limits })
      await until("all have fired", async () => (await valuesOf(directory, counts)).length >= 20_000)
      await query.stop()
    }
    const keys = (await valuesOf(directory, counts)).map((count) => count.key)
    expect(keys).toHaveLength(20_000)
    expect(new Set(keys).size).toBe(20_000)
  })

  test("20,000 event-time timeouts fire once, though the process is killed between their follow-ups, again and again (T2, P22)", async () => {
    const directory = freshDirectory()
    const random = randomFrom(seed)
    await publish(
      directory,
      alarms,
      range(20_000).map((index) => ({ key: `k${index}`, at: 1_000 + (index % 100) }))
    )
    await bounded(directory, ring, { limits: { residentKeysMax: 100 } })
    expect(await valuesOf(directory, rung)).toEqual([])
    await publish(
      directory,
      alarms,
      range(16).map((index) => ({ key: `last${index}`, at: 1_000_000 }))
    )
    let kills = 0
    let rings = 0
    for (let life = 0; life < 20 && rings < 20_000; life++) {
      const child = new Child([join(repository, "test/fixtures/fire-timeouts.ts"), directory])
      await child.says("started")
      await until(`more than ${rings} have fired`, async () => (await valuesOf(directory, rung)).length > rings)
      await sleep(random() * 60)
      child.kill()
      await child.ended
      rings = (await valuesOf(directory, rung)).length
      if (rings < 20_000) kills += 1
    }
    console.log(`SEED=${seed}: killed ${kills} times between follow-ups`)
    expect(kills).toBeGreaterThan(0)
    await bounded(directory, ring)
    const keys = (await valuesOf(directory, rung)).map((alarm) => alarm.key)
    expect(keys).toHaveLength(20_000)
    expect(new Set(keys).size).toBe(20_000)
  })

  test("event time that passed while nobody ran counts too, with advanceWhenIdle (W7, T2)", async () => {
    const directory = freshDirectory()
    const events = eventsOf(4)
    const resting = job("resting")
      .from(events)
      .withWatermark((event) => event.at, 0, { idleAfter: 100, advanceWhenIdle: true })
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>(), timeout: "event-time" }, function* (key, found, state) {
        if (state.hasTimedOut) yield { key, count: 1 }
        else {
          state.update(found.length)
          state.setTimeoutTimestamp(Math.max(...found.map((event) => event.at)), 1_500)
        }
      })
      .to(counts)
    await publish(
      directory,
      events,
      range(100).map((index) => ({ key: `k${index}`, at: 1_000_000 }))
    )
    await bounded(directory, resting, { trigger: "once" })
    expect(await valuesOf(directory, counts)).toEqual([])
    await sleep(1_600)
    const startedMs = performance.now()
    const query = await start(resting, { runtime: embedded(directory) })
    await until("all have fired", async () => (await valuesOf(directory, counts)).length >= 100)
    expect(performance.now() - startedMs, "as soon as the inputs are known to rest, not 1.5 s later").toBeLessThan(1_400)
    await query.stop()
    expect(new Set((await valuesOf(directory, counts)).map(({ key }) => key)).size).toBe(100)
  })
})

describe("who may run on a directory", () => {
  test("several jobs of one process share it", async () => {
    const directory = freshDirectory()
    const [first, second] = [eventsOf(4, "first"), eventsOf(2, "second")]
    const totals = topic("totals", { codec: json<Count>(), key: (count) => count.key, partitions: 1 })
    const other = job("other")
      .from(second)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>() }, function* (key, found) {
        for (const _ of found) yield { key, count: 1 }
      })
      .to(totals)
    const queries = await Promise.all([counting(first), other].map((each) => start(each, { runtime: embedded(directory) })))
    await Promise.all([
      publish(
        directory,
        first,
        range(300).map((index) => ({ key: `k${index % 9}`, at: 0 }))
      ),
      publish(
        directory,
        second,
        range(200).map((index) => ({ key: `k${index % 9}`, at: 0 }))
      )
    ])
    await until("both have read everything", async () => {
      return (await valuesOf(directory, counts)).length >= 300 && (await valuesOf(directory, totals)).length >= 200
    })
    await Promise.all(queries.map((query) => query.stop()))
    expectCounted(await valuesOf(directory, counts), 300)
    expect(await valuesOf(directory, totals)).toHaveLength(200)
  })

  test("a second process is told by whom it is in use, may publish and read, and gets it when the first is killed", async () => {
    const directory = freshDirectory()
    const child = new Child([join(repository, "test/fixtures/run-queries.ts"), directory, "direct"])
    await child.says("started")
    const refused = await start(direct, { runtime: embedded(directory) }).catch((thrown: KeyfoldError) => thrown)
    expect(refused).toMatchObject({ code: "directory-in-use", message: expect.stringContaining(`process ${child.pid} `) })
    const request = (at: number) => ({ readerId: "r", at, page: "" })
    await publish(directory, requests, [request(1_000_000), request(1_060_000), request(9_000_000)])
    await until("the other process answers", async () => (await valuesOf(directory, sessions)).length > 0)
    expect(await valuesOf(directory, sessions)).toEqual([{ key: "r", start: 1_000_000, end: 1_060_000, count: 2 }])
    child.kill()
    await child.ended
    await bounded(directory, direct, { atEnd: "close" })
    expect(await valuesOf(directory, sessions)).toHaveLength(2)
  })

  test("a query that runs already is refused under its name, and only under that", async () => {
    const directory = freshDirectory()
    const events = eventsOf(2)
    await using _query = await start(counting(events), { runtime: embedded(directory) })
    expect(await codeOf(start(counting(events), { runtime: embedded(directory) }))).toBe("directory-in-use")
    await using other = await start(counting(events), { runtime: embedded(directory), name: "other" })
    expect(other.isActive).toBe(true)
  })

  test("one that was refused leaves nothing locked", async () => {
    const directory = freshDirectory()
    const events = eventsOf(2)
    const query = await start(counting(events), { runtime: embedded(directory) })
    await codeOf(start(counting(events), { runtime: embedded(directory) }))
    await query.stop()
    await bounded(directory, counting(events))
    const child = new Child([join(repository, "test/fixtures/run-queries.ts"), directory, "direct"])
    expect(await child.says("")).toBe("started")
    child.kill()
  })
})

describe("a job that changed", () => {
  test("another partition count is a topic-mismatch for start, publish and read", async () => {
    const directory = freshDirectory()
    await publish(directory, eventsOf(4), [{ key: "a", at: 0 }])
    expect(await codeOf(start(counting(eventsOf(5)), { runtime: embedded(directory) }))).toBe("topic-mismatch")
    expect(await codeOf(publish(directory, eventsOf(5), []))).toBe("topic-mismatch")
    expect(await codeOf(valuesOf(directory, eventsOf(5)))).toBe("topic-mismatch")
  })

  const stateOf = (version: number, events = eventsOf(2)) =>
    job("versioned")
      .from(events)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>({ version }) }, function* (key, found, state) {
        state.update((state.getOption() ?? 0) + found.length)
        yield { key, count: state.get() }
      })
      .to(counts)

  test("another version of the state codec is refused, and the old one goes on", async () => {
    const directory = freshDirectory()
    await publish(directory, eventsOf(2), [{ key: "a", at: 0 }])
    await bounded(directory, stateOf(1))
    await publish(directory, eventsOf(2), [{ key: "a", at: 0 }])
    expect(await codeOf(start(stateOf(2), { runtime: embedded(directory) }))).toBe("schema-incompatible")
    await bounded(directory, stateOf(1))
    expect(await valuesOf(directory, counts)).toEqual([
      { key: "a", count: 1 },
      { key: "a", count: 2 }
    ])
  })

  test("other sources are refused", async () => {
    const directory = freshDirectory()
    await bounded(directory, stateOf(1))
    expect(await codeOf(start(stateOf(1, eventsOf(2, "others")), { runtime: embedded(directory) }))).toBe("schema-incompatible")
    const union = job("versioned").from(eventsOf(2)).from(eventsOf(2, "others")).groupByKey()
    const both = union.flatMapGroupsWithState({ state: json<number>() }, () => []).to()
    expect(await codeOf(start(both, { runtime: embedded(directory) }))).toBe("schema-incompatible")
  })

  test("startAt counts at the first start only: latest, and a time", async () => {
    const directory = freshDirectory()
    const events = eventsOf(1)
    const from = (name: string, startAt: "latest" | { readonly time: number }) =>
      job(name)
        .from(events, { startAt })
        .groupByKey()
        .flatMapGroupsWithState({ state: json<number>() }, function* (_, found) {
          for (const event of found) yield { key: name, count: event.at }
        })
        .to(counts)
    await publish(directory, events, [{ key: "a", at: 1 }])
    await sleep(20)
    const time = Date.now()
    await publish(directory, events, [{ key: "a", at: 2 }])
    for (let run = 0; run < 2; run++) {
      await bounded(directory, from("latest", "latest"))
      await bounded(directory, from("time", { time }))
      await publish(directory, events, [{ key: "a", at: 3 + run }])
    }
    const found = await valuesOf(directory, counts)
    expect(found.filter(({ key }) => key === "latest").map(({ count }) => count)).toEqual([3])
    expect(found.filter(({ key }) => key === "time").map(({ count }) => count)).toEqual([2, 3])
  })
})

describe("triggers", () => {
  test("once is at most one turn a partition", async () => {
    const directory = freshDirectory()
    const events = eventsOf(1)
    await publish(
      directory,
      events,
      range(25).map(() => ({ key: "a", at: 0 }))
    )
    for (const seen of [10, 20, 25, 25]) {
      await bounded(directory, counting(events), { trigger: "once", limits: { turnEventsMax: 10 } })
      expectCounted(await valuesOf(directory, counts), seen)
    }
  })

  test("available-now ends though what it puts out comes back as its input", async () => {
    const directory = freshDirectory()
    const events = eventsOf(2)
    const out = await publisher(embedded(directory), events)
    let calls = 0
    const echo = job("echo")
      .from(events)
      .to(
        foreachTurn<Event>("echo", async (values) => {
          calls += values.length
          for (const { key, at } of values) await out.send({ key, at: at + 1 })
        })
      )
    await publish(
      directory,
      events,
      range(10).map((index) => ({ key: `k${index}`, at: 0 }))
    )
    await bounded(directory, echo)
    expect(calls).toBe(10)
    await bounded(directory, echo)
    expect(calls).toBe(20)
    await out[Symbol.asyncDispose]()
  })

  test("every takes at a tick whatever has come since the last", async () => {
    const directory = freshDirectory()
    const events = eventsOf(1)
    const turns: number[] = []
    const ticking = job("ticking")
      .from(events)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>() }, (_, found) => {
        turns.push(found.length)
        return []
      })
      .to()
    await using out = await publisher(embedded(directory), events)
    const query = await start(ticking, { runtime: embedded(directory), trigger: { every: "1 second" } })
    for (let sent = 0; sent < 40; sent++) {
      await out.send({ key: "a", at: sent })
      await sleep(5)
    }
    await until("all were read", () => turns.reduce((sum, count) => sum + count, 0) === 40)
    await query.stop()
    expect(turns.length).toBeLessThan(10)
  })

  const rearming = (events: Topic<Event, string>) =>
    job("rearming")
      .from(events)
      .withWatermark((event) => event.at, 100)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>(), timeout: "event-time" }, function* (key, found, state) {
        if (!state.hasTimedOut) {
          state.update(0)
          state.setTimeoutTimestamp(Math.max(...found.map((event) => event.at)), 1_000)
          return
        }
        const rounds = state.get() + 1
        yield { key, count: rounds }
        if (rounds === 3) return state.remove()
        state.update(rounds)
        state.setTimeoutTimestamp(state.getCurrentWatermarkMs(), 1_000)
      })
      .to(counts)

  test.each(["available-now", "once"] as const)(
    "%s keeps what is armed, or closes it, also what is armed while closing; later events count",
    async (trigger) => {
      const directory = freshDirectory()
      const events = eventsOf(4)
      const keys = range(20).map((index) => `k${index}`)
      await publish(
        directory,
        events,
        keys.map((key) => ({ key, at: 5_000 }))
      )
      await bounded(directory, rearming(events), { trigger })
      expect(await valuesOf(directory, counts)).toEqual([])
      await bounded(directory, rearming(events), { trigger, atEnd: "close" })
      expectCounted(await valuesOf(directory, counts), 60)
      await publish(
        directory,
        events,
        keys.map((key) => ({ key, at: 50_000 }))
      )
      await bounded(directory, rearming(events), { trigger, atEnd: "close" })
      expect(await valuesOf(directory, counts)).toHaveLength(120)
    }
  )

  test("in an available-now run a stage does not wait for a partition before it that has read all and put nothing out (W6)", async () => {
    // Symptom: timeouts of a chained stage stay armed though everything before them was read. Cause: only the first stage's own
    // watermark took a finished input for idle, that of a withWatermark behind it waited for idleAfter on the wall clock.
    const directory = freshDirectory()
    const events = eventsOf(4)
    const chain = job("chain")
      .from(events)
      .withWatermark((event) => event.at, 0)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>() }, (_, found) => found)
      .withWatermark((event) => event.at, 0)
      .groupByKey((event) => `${event.key} at ${event.at}`)
      .flatMapGroupsWithState({ state: json<number>(), timeout: "event-time" }, function* (key, found, state) {
        if (state.hasTimedOut) yield { key, count: 1 }
        else state.setTimeoutTimestamp(Math.min(...found.map((event) => event.at)), 10)
      })
      .to(counts)
    await publish(directory, events, [{ key: "a", at: 1_000 }])
    await bounded(directory, chain)
    await publish(directory, events, [{ key: "a", at: 90_000 }])
    await bounded(directory, chain)
    expect(await valuesOf(directory, counts)).toEqual([{ key: "a at 1000", count: 1 }])
  })
})

describe("the handle of a query", () => {
  test("stop() in the middle of work loses nothing and repeats nothing", async () => {
    const directory = freshDirectory()
    const events = eventsOf(8)
    const random = randomFrom(seed)
    await using out = await publisher(embedded(directory), events)
    let sent = 0
    for (let run = 0; run < 20; run++) {
      const query = await start(counting(events), { runtime: embedded(directory) })
      const stopping = sleep(random() * 60).then(() => query.stop())
      for (let parcel = 0; parcel < 10; parcel++) {
        for (let index = 0; index < 20; index++) void out.send({ key: `k${sent++ % 50}`, at: 0 })
        await out.flush()
      }
      await stopping
      expect(query.isActive).toBe(false)
      expect(query.exception).toBeUndefined()
    }
    await bounded(directory, counting(events))
    expectCounted(await valuesOf(directory, counts), sent)
  })

  test("processAllAvailable() completes when all that was there is out, also behind two hops", async () => {
    // Symptom: it completed before the last turn was committed. Cause: a turn's progress counts from when the turn was computed.
    const directory = freshDirectory()
    const events = eventsOf(4)
    const chain = job("chain")
      .from(events)
      .groupByKey((event) => event.key)
      .flatMapGroupsWithState({ state: json<number>() }, (_, found) => found)
      .groupByKey((event) => event.key)
      .flatMapGroupsWithState({ state: json<number>() }, function* (key, found, state) {
        let count = state.getOption() ?? 0
        for (const _ of found) yield { key, count: ++count }
        state.update(count)
      })
      .to(counts)
    await using query = await start(chain, { runtime: embedded(directory) })
    const missing: number[] = []
    for (let round = 1; round <= 20; round++) {
      await publish(
        directory,
        events,
        range(20).map((index) => ({ key: `k${index}`, at: 0 }))
      )
      await query.processAllAvailable()
      missing.push(round * 20 - (await valuesOf(directory, counts)).length)
    }
    expect(missing).toEqual(range(20).map(() => 0))
  })

  test("awaitTermination(ms) is false while it runs and true when it has ended", async () => {
    const query = await start(counting(eventsOf(1)), { runtime: embedded(freshDirectory()) })
    expect(await query.awaitTermination(20)).toBe(false)
    await query.stop()
    await query.stop()
    expect(await query.awaitTermination(20)).toBe(true)
    expect(await query.awaitTermination()).toBe(true)
    expect(query).toMatchObject({ isActive: false, exception: undefined })
  })

  test("what fails it is in `exception` and thrown by whoever waits; onError stop runs the rows again", async () => {
    const directory = freshDirectory()
    const events = eventsOf(1)
    let isBroken = true
    const seen: number[] = []
    const failing = job("failing", { onError: "stop" })
      .from(events)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>() }, function* (key, found, state) {
        seen.push(found.length)
        const count = (state.getOption() ?? 0) + found.length
        state.update(count)
        yield { key, count }
        if (isBroken && found.some((event) => event.at === 13)) throw new Error("thirteen")
      })
      .to(counts)
    const query = await start(failing, { runtime: embedded(directory) })
    await publish(directory, events, [{ key: "a", at: 1 }])
    await until("the first is out", async () => (await valuesOf(directory, counts)).length === 1)
    const waiting = [query.awaitTermination(), query.awaitTermination(60_000)].map(codeOf)
    await publish(directory, events, [
      { key: "b", at: 2 },
      { key: "a", at: 13 }
    ])
    expect(await Promise.all(waiting)).toEqual(["function-failed", "function-failed"])
    expect(query).toMatchObject({ isActive: false, exception: { code: "function-failed", message: expect.stringContaining("thirteen") } })
    expect(await codeOf(query.processAllAvailable())).toBe("function-failed")
    await query.stop()
    expect(await codeOf(bounded(directory, failing)), "the rows are still there").toBe("function-failed")
    expect(await valuesOf(directory, counts)).toEqual([{ key: "a", count: 1 }])
    isBroken = false
    await bounded(directory, failing)
    expect(await valuesOf(directory, counts)).toEqual([
      { key: "a", count: 1 },
      { key: "b", count: 1 },
      { key: "a", count: 2 }
    ])
  })

  test("stop() waits for a write of the user's own sink, so that two never run at once", async () => {
    // Symptom: stop, then start: the same turn was written twice at the same time, so a sink that asks "have I seen this id" answers
    // no twice. Cause: stopping interrupted the delivery, which cannot stop a promise, and did not wait for it.
    const directory = freshDirectory()
    const events = eventsOf(1)
    let writing = 0
    const atOnce: number[] = []
    const slow = job("slow")
      .from(events)
      .to(
        foreachTurn<Event>("slow", async () => {
          atOnce.push(++writing)
          await sleep(300)
          writing -= 1
        })
      )
    await publish(directory, events, [{ key: "a", at: 0 }])
    const query = await start(slow, { runtime: embedded(directory) })
    await until("it writes", () => writing > 0)
    await query.stop()
    expect(writing, "a write goes on though the query has stopped").toBe(0)
    await bounded(directory, slow)
    expect(Math.max(...atOnce)).toBe(1)
  })

  test("a sink that fails for good stops the query, and what it missed comes again under the same ids", async () => {
    const directory = freshDirectory()
    const events = eventsOf(1)
    let isBroken = true
    const written: { id: string; values: readonly Event[] }[] = []
    const sinking = job("sinking")
      .from(events)
      .to(
        foreachTurn<Event>("broken", async (values, { id }) => {
          written.push({ id, values })
          if (isBroken) throw new Error("no entry")
        })
      )
    const query = await start(sinking, { runtime: embedded(directory) })
    await publish(
      directory,
      events,
      range(50).map((at) => ({ key: "a", at }))
    )
    expect(await codeOf(query.awaitTermination())).toBe("function-failed")
    expect(query.exception?.message).toContain("no entry")
    isBroken = false
    await bounded(directory, sinking)
    for (const ofTurn of Map.groupBy(written, ({ id }) => id).values()) for (const call of ofTurn) expect(call).toEqual(ofTurn[0])
    const remembered = new Map(written.map(({ id, values }) => [id, values]))
    expect([...remembered.values()].flat().map(({ at }) => at)).toEqual(range(50))
  })

  test("an event time beyond what a date can hold neither stops nor hangs the query", async () => {
    // Symptom: one event with its time in nanoseconds, and stop() never came back, the directory stayed locked. Cause: the progress
    // report printed the watermark as a date, which threw where the query ends.
    const directory = freshDirectory()
    const events = eventsOf(1)
    const timed = job("timed")
      .from(events)
      .withWatermark((event) => event.at, 0)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>() }, function* (key, found) {
        yield { key, count: found.length }
      })
      .to(counts)
    const query = await start(timed, { runtime: embedded(directory) })
    await publish(directory, events, [{ key: "a", at: 1_389_052_815_000_000_000 }])
    await until("it is out", async () => (await valuesOf(directory, counts)).length === 1)
    expect(await Promise.race([query.stop().then(() => "stopped"), sleep(5_000).then(() => "hangs")])).toBe("stopped")
    expect(query.exception).toBeUndefined()
  })
})

describe("time while nothing comes, on the real clock", () => {
  test("processing-time timeouts fire without new data, once (T1)", async () => {
    const directory = freshDirectory()
    const events = eventsOf(4)
    const fired: { readonly key: string; readonly lateMs: number }[] = []
    const waking = job("waking")
      .from(events)
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>(), timeout: "processing-time" }, function* (key, _, state) {
        const nowMs = state.getCurrentProcessingTimeMs()
        if (state.hasTimedOut) {
          fired.push({ key, lateMs: Date.now() - state.get() })
          yield { key, count: 1 }
          return
        }
        state.update(nowMs + 200)
        state.setTimeoutDuration(200)
      })
      .to(counts)
    await using _query = await start(waking, { runtime: embedded(directory) })
    await publish(
      directory,
      events,
      range(50).map((index) => ({ key: `k${index}`, at: 0 }))
    )
    await until("all have fired", async () => (await valuesOf(directory, counts)).length >= 50)
    await sleep(300)
    expect(new Set(fired.map(({ key }) => key)).size).toBe(50)
    expect(fired).toHaveLength(50)
    for (const { lateMs } of fired) {
      expect(lateMs, "strictly after it is due (G8)").toBeGreaterThan(0)
      expect(lateMs).toBeLessThan(2_000)
    }
  })

  /** One row in each of two keys of different partitions, of which only the second goes on. */
  const closing = (events: Topic<Event, string>, options: { readonly advanceWhenIdle: boolean }) =>
    job("closing")
      .from(events)
      .withWatermark((event) => event.at, 0, { idleAfter: 200, ...options })
      .groupByKey()
      .flatMapGroupsWithState({ state: json<number>(), timeout: "event-time" }, function* (key, found, state) {
        if (state.hasTimedOut) {
          yield { key, count: state.get() }
          return state.remove()
        }
        state.update((state.getOption() ?? 0) + found.length)
        state.setTimeoutTimestamp(Math.max(...found.map((event) => event.at)), 500)
      })
      .to(counts)

  test("a quiet partition closes while another is busy (W6), and its late rows are late", async () => {
    const directory = freshDirectory()
    const events = eventsOf(2)
    await using query = await start(closing(events, { advanceWhenIdle: false }), { runtime: embedded(directory) })
    const partitions = new Map<string, number>()
    await publish(
      directory,
      events,
      range(20).map((index) => ({ key: `k${index}`, at: 1_000 }))
    )
    for await (const { key, info } of read(embedded(directory), events)) partitions.set(key, info.partition)
    const [quiet] = [...partitions].find(([, partition]) => partition === 0) as [string, number]
    const [busy] = [...partitions].find(([, partition]) => partition === 1) as [string, number]
    let at = 1_000
    await until("the quiet partition closes", async () => {
      at += 100
      await publish(directory, events, [{ key: busy, at }])
      return (await valuesOf(directory, counts)).some(({ key }) => key === quiet)
    })
    const before = (await valuesOf(directory, counts)).length
    await publish(directory, events, [{ key: quiet, at: 1_000 }])
    await until("the late row was dropped", () => (query as unknown as { totals: { late: number } }).totals.late === 1)
    expect((await valuesOf(directory, counts)).length).toBeGreaterThanOrEqual(before)
    expect((await valuesOf(directory, counts)).filter(({ key }) => key === quiet)).toHaveLength(1)
  })

  test("with advanceWhenIdle the last session closes when everything rests (W7), without it it stays open", async () => {
    const [resting, still] = [freshDirectory(), freshDirectory()]
    const events = eventsOf(4)
    await using _first = await start(closing(events, { advanceWhenIdle: true }), { runtime: embedded(resting) })
    await using _second = await start(closing(events, { advanceWhenIdle: false }), { runtime: embedded(still) })
    for (const directory of [resting, still]) await publish(directory, events, [{ key: "a", at: 1_000 }])
    await until("the last session closes", async () => (await valuesOf(resting, counts)).length === 1)
    await sleep(300)
    expect(await valuesOf(still, counts)).toEqual([])
    expect(await valuesOf(resting, counts)).toEqual([{ key: "a", count: 1 }])
  })

  test("a job that rests writes next to nothing, also with advanceWhenIdle", async () => {
    // Symptom: thousands of commits a second while nothing came. Cause: each pass moved the watermark by the millisecond that the commit
    // of the pass before had taken, so a resting partition never slept.
    const directory = freshDirectory()
    const events = eventsOf(4)
    await using query = await start(closing(events, { advanceWhenIdle: true }), { runtime: embedded(directory) })
    const turns = () => (query as unknown as { totals: { turns: number } }).totals.turns
    await publish(
      directory,
      events,
      range(20).map((index) => ({ key: `k${index}`, at: 1_000 }))
    )
    await until("all have closed", async () => (await valuesOf(directory, counts)).length === 20)
    const before = turns()
    await sleep(1_000)
    const commits = turns() - before
    expect(commits, "commits in a second of rest").toBeLessThan(100)
  })
})
