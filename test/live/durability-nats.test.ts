// Goal: topics on streams that survive less than was asked for are told of, by a warning, or by a refusal in strict.
// Method: real servers and streams with settings good and bad; the check at start and the check of a topic's streams as the runtime does them.
import type { StreamConfig } from "@nats-io/jetstream"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { describe, expect, test } from "vitest"
import type { KeyfoldError } from "../../src/errors.ts"
import { duplicateWindowMs } from "../../src/model/jetstream-names.ts"
import { checkNatsDurability, checkStreamDurability, type NatsDemand, streamDurability } from "../../src/runtime/durability-nats.ts"
import { connectNats, type NatsLink } from "../../src/runtime/nats.ts"
import { natsSettings } from "../../src/runtime/nats-settings.ts"
import { startNatsCluster } from "../servers/nats-cluster.ts"
import { startNats } from "../servers/nats-server.ts"
import { compareVersions, natsVersions, running } from "../servers/versions.ts"

const versions = natsVersions().filter((version) => version !== running)

const run = <A>(body: Effect.Effect<A, KeyfoldError, Scope.Scope>): Promise<A> => Effect.runPromise(Effect.scoped(body))

const asked: Omit<NatsDemand, "warn" | "isStrict"> = { level: "process", replicas: 1, syncsAlways: false }

type Check = (demand: NatsDemand) => Effect.Effect<void, KeyfoldError>

/** What a check warns of; strict refuses exactly where it warns, and says no less. */
const warnings = (check: Check, of: Partial<NatsDemand>): Effect.Effect<readonly string[], KeyfoldError> =>
  Effect.gen(function* () {
    const found: string[] = []
    yield* check({ ...asked, ...of, isStrict: false, warn: (message) => found.push(message) })
    const strict = check({ ...asked, ...of, isStrict: true, warn: () => expect.fail("strict does not warn") })
    const refusal = yield* Effect.match(strict, { onFailure: (error) => `${error.code}: ${error.message}`, onSuccess: () => "accepted" })
    expect(refusal.startsWith("durability-refused: ")).toBe(found.length > 0)
    for (const warning of found) expect(refusal).toContain(warning)
    return found
  })

const connected = (url: string): Effect.Effect<NatsLink, KeyfoldError, Scope.Scope> => connectNats(natsSettings(url, {}))

/** As the server says it afterwards. */
const created = ({ connection }: NatsLink, config: object): Effect.Effect<StreamConfig> =>
  Effect.promise(async () => {
    const whole = { name: "clicks-0", subjects: ["clicks.0.>"], ...config }
    await connection.request("$JS.API.STREAM.DELETE.clicks-0")
    const answer = await connection.request("$JS.API.STREAM.CREATE.clicks-0", JSON.stringify(whole))
    const { error, config: made } = answer.json<{ readonly error?: object; readonly config: StreamConfig }>()
    expect(error).toBeUndefined()
    return made
  })

describe.each(versions)("nats-server %s", (version) => {
  test("the check at start: what one server can do, and what it cannot", async () => {
    await using server = await startNats({ version })
    const said = (of: Partial<NatsDemand>): Promise<readonly string[]> =>
      run(Effect.flatMap(connected(server.url), (link) => warnings((demand) => checkNatsDurability(link, demand), of)))
    const at = `NATS at 127.0.0.1:${server.port}`
    expect(await said({})).toEqual([])
    expect(await said({ level: "machine" })).toEqual([])
    expect(await said({ replicas: 3 })).toEqual([`${at} is a single server, so topics cannot have 3 replicas: use a cluster`])
    expect(await said({ level: "replica" })).toEqual([
      `${at} is asked for topics with 1 replica: with durability for the loss of a machine set replicas to 3`
    ])
    const unknown = compareVersions(version, "2.10.0") < 0
    const complaint = `${at} is nats-server ${version}, which knows no sync_interval: always (syncsAlways): use 2.10 or newer`
    expect(await said({ syncsAlways: true })).toEqual(unknown ? [complaint] : [])
  })

  const streams: Readonly<Record<string, readonly [config: object, demand: Partial<NatsDemand>, warning: RegExp | undefined]>> = {
    "a file": [{ storage: "file" }, {}, undefined],
    "as keyfold makes it": [{ storage: "file", duplicate_window: duplicateWindowMs * 1e6 }, {}, undefined],
    memory: [{ storage: "memory" }, {}, /keeps its messages in memory, so a restart of the server loses them/],
    "without acknowledgements": [{ no_ack: true }, {}, /acknowledges nothing \(no_ack\)/],
    "a window too short": [{ duplicate_window: 200e6 }, {}, /forgets message ids after 200 ms \(duplicate_window\)/],
    "a window too long": [{ duplicate_window: 7_200e9 }, {}, /remembers message ids for 7200 s \(duplicate_window\)/],
    "fewer replicas than asked for": [{}, { replicas: 3 }, /has 1 replica and not 3: nats stream edit NAME --replicas 3/],
    "the loss of a machine": [{}, { level: "replica" }, /has 1 replica and not 3/],
    "a power failure, and nobody knows": [{}, { level: "machine" }, /no NATS server says whether it syncs each write.*syncsAlways: true/],
    "a power failure, and it is said to sync": [{}, { level: "machine", syncsAlways: true }, undefined]
  }
  test.each(Object.keys(streams))("a topic's streams: %s", async (name) => {
    const [config, demand, warning] = streams[name] as (typeof streams)[string]
    await using server = await startNats({ version })
    const found = await run(
      Effect.gen(function* () {
        const link = yield* connected(server.url)
        const made = yield* created(link, config)
        return yield* warnings((all) => checkStreamDurability(link, [made], all), demand)
      })
    )
    expect(found).toHaveLength(warning === undefined ? 0 : 1)
    if (warning === undefined) return
    expect(found[0]).toMatch(warning)
    expect(found[0]).toContain(`NATS at 127.0.0.1:${server.port}: the stream clicks-0 `)
  })

  // Older servers do not have the setting.
  test.skipIf(compareVersions(version, "2.12.0") < 0)("a topic's streams: acknowledged before they are written", async () => {
    await using server = await startNats({ version })
    const faults = await run(
      Effect.gen(function* () {
        const made = yield* created(yield* connected(server.url), { persist_mode: "async" })
        return streamDurability(made, { ...asked, isStrict: false, warn: () => undefined })
      })
    )
    expect(faults).toEqual([expect.stringContaining("(persist_mode async)")])
  })

  test("no server tells a client its sync_interval", async () => {
    await using server = await startNats({
      version,
      ...(compareVersions(version, "2.10.0") < 0 ? {} : { jetstream: "sync_interval: always" })
    })
    await run(
      Effect.gen(function* () {
        const link = yield* connected(server.url)
        const stream = yield* created(link, {})
        const account = yield* Effect.promise(() => link.connection.request("$JS.API.INFO"))
        expect(JSON.stringify([stream, link.connection.info, account.json()])).not.toContain("sync")
        for (const subject of ["$SYS.REQ.SERVER.PING.JSZ", "$SYS.REQ.SERVER.PING.VARZ", "$SYS.REQ.ACCOUNT.PING.JSZ"]) {
          const answer = Effect.tryPromise(() => link.connection.request(subject, "", { timeout: 1_000 }))
          expect(yield* Effect.match(answer, { onFailure: () => "nobody answers", onSuccess: () => "told" })).toBe("nobody answers")
        }
      })
    )
  })
})

test("a topic with many streams is told of once; three replicas are enough for all levels", async () => {
  await using cluster = await startNatsCluster()
  await run(
    Effect.gen(function* () {
      const link = yield* connected(cluster.url)
      const [one, three] = [yield* created(link, {}), yield* created(link, { num_replicas: 3 })]
      const check = (configs: readonly StreamConfig[]) => (demand: NatsDemand) => checkStreamDurability(link, configs, demand)
      const topic = [one, { ...one, name: "clicks-1" }, { ...one, name: "clicks-2" }, { ...three, name: "clicks-3" }]
      expect(yield* warnings(check(topic), { level: "replica", replicas: 3 })).toEqual([
        `${link.name}: the stream clicks-0, like 2 more, has 1 replica and not 3: nats stream edit NAME --replicas 3`
      ])
      for (const level of ["process", "machine", "replica"] as const) {
        expect(yield* warnings(check([three]), { level, replicas: 3 })).toEqual([])
        expect(yield* warnings((demand) => checkNatsDurability(link, demand), { level, replicas: 3 })).toEqual([])
      }
    })
  )
})

test("a server that is too old is refused, strict or not", async () => {
  const old = { name: "NATS at old:4222", version: () => "2.8.4", isClustered: false }
  const error = await run(Effect.flip(checkNatsDurability(old, { ...asked, isStrict: false, warn: () => undefined })) as never)
  expect(error).toMatchObject({ code: "durability-refused", message: "NATS at old:4222 is nats-server 2.8.4: keyfold needs 2.9 or newer" })
})
