// Goal: the rights that docs/ gives are enough to run a job with, no more than it needs, and no secret is ever said.
// Method: the examples are cut out of the pages and become the configuration of real servers; a job that re-keys runs on them from an empty
// store, and again as another life. The servers' logs say whether anything was refused in silence.
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { connect, type NatsConnection } from "@nats-io/transport-node"
import { Redis } from "ioredis"
import { explain, job, type KeyfoldError, publisher, read, start, topic } from "keyfold"
import { clustered } from "keyfold/clustered"
import { json } from "keyfold/codecs/json"
import { describe, expect, test } from "vitest"
import { pageAt } from "../doc/pages.ts"
import { until } from "../fixtures/world.ts"
import { startNats } from "../servers/nats-server.ts"
import { startRedis } from "../servers/redis-server.ts"
import { type Server, startAll } from "../servers/server.ts"
import { compareVersions, natsVersions, redisVersions, running } from "../servers/versions.ts"

const secrets = { worker: "worker-s3cret", shop: "shop-s3cret", redis: "redis-s3cret", root: "root-s3cret" }

interface Click {
  readonly user: string
  readonly page: string
}

const clicks = topic("clicks", { codec: json<Click>(), key: (click) => click.page, partitions: 2 })
const visits = topic("visits", {
  codec: json<{ readonly user: string; readonly count: number }>(),
  key: (visit) => visit.user,
  partitions: 2
})

/** Re-keyed, so that there is an internal topic. */
const visitsJob = job("visits")
  .from(clicks)
  .groupByKey((click) => click.user)
  .flatMapGroupsWithState({ name: "count", state: json<number>() }, function* (user, found, state) {
    if (user === "poison") throw new Error("nobody counts poison")
    state.update((state.getOption() ?? 0) + found.length)
    yield { user, count: state.get() }
  })
  .to(visits)

// ---- the pages' examples

const natsExample = (): string => {
  const block = pageAt("docs/security.md").blocks.find(({ text }) => text.startsWith("accounts {"))
  const config = `trace: true\n${block?.text}`.replace("WORKER-PASSWORD", secrets.worker).replace("SHOP-PASSWORD", secrets.shop)
  // Somebody who may do everything there, for the test.
  return config.replace("users: [", `users: [\n{ user: root, password: "${secrets.root}" }`)
}

/** As the page says for an account that has other streams: names instead of `*`, and nobody creates anything. */
const strictExample = (): string => {
  const streams = ["clicks-0", "clicks-1", "visits-0", "visits-1", "visits~count-0", "visits~count-1", "visits-dead-0"]
  const named = natsExample().replace(/"(\$JS\.API\.(?:STREAM|CONSUMER)\.[A-Z.]+)\.\*(\.\*)?"/g, (_, api: string, rest = "") =>
    api.endsWith("STREAM.CREATE") ? "" : streams.map((stream) => `"${api}.${stream}${rest}"`).join(", ")
  )
  return named.replace(/, (?=,|\n)|,(?=\n)/g, "")
}

const redisRights = (version: string): string[] => {
  const line = /^ACL SETUSER (keyfold on) >PASSWORD (.*)$/m.exec(pageAt("docs/journal-format.md").text) as RegExpExecArray
  const known = compareVersions(version, "7.2.0") >= 0 ? line[2] : line[2]?.replace(" +waitaof", "")
  return `${line[1]} >${secrets.redis} ${known}`.split(" ")
}

// ---- the world

interface Secured extends AsyncDisposable {
  readonly nats: Server
  readonly redis: Server
}

const startSecured = async (natsVersion: string, redisVersion: string): Promise<Secured> => {
  const starting = [startNats({ version: natsVersion, config: natsExample() }), startRedis({ version: redisVersion })]
  const [nats, redis] = (await startAll(starting)) as [Server, Server]
  const admin = new Redis(redis.url)
  await admin.call("ACL", "SETUSER", ...redisRights(redisVersion))
  await admin.call("ACL", "SETUSER", "default", "off")
  admin.disconnect()
  return {
    nats,
    redis,
    async [Symbol.asyncDispose]() {
      await nats.stop()
      await redis.stop()
    }
  }
}

const runtimeFor = ({ nats, redis }: Secured, user: "worker" | "shop", inboxPrefix = "_INBOX.keyfold") =>
  clustered({
    nats: { servers: nats.url, user, password: secrets[user], inboxPrefix },
    redis: { url: redis.url, username: "keyfold", password: secrets.redis },
    durability: "strict"
  })

const publishClicks = async (secured: Secured, count: number, user?: string): Promise<void> => {
  await using out = await publisher(runtimeFor(secured, "shop", "_INBOX.shop"), clicks)
  for (let index = 0; index < count; index++) void out.send({ user: user ?? `user ${index % 7}`, page: `page ${index % 3}` })
  await out.flush()
}

/** All that is there; then what the topic holds: the last count of each user. */
const countsAfterRun = async (secured: Secured): Promise<Readonly<Record<string, number>>> => {
  const runtime = runtimeFor(secured, "worker")
  const query = await start(visitsJob, { runtime, trigger: "available-now" })
  await query.awaitTermination()
  return countsIn(secured)
}

const countsIn = async (secured: Secured): Promise<Readonly<Record<string, number>>> => {
  const runtime = runtimeFor(secured, "worker")
  const counts: Record<string, number> = {}
  for await (const { value } of read(runtime, visits)) counts[value.user] = value.count
  return counts
}

const isPurged = (secured: Secured, stream: string): Promise<boolean> =>
  asUser(secured, "root", async (connection) => {
    const info = (await connection.request(`$JS.API.STREAM.INFO.${stream}`)).json<{ readonly state?: { readonly first_seq: number } }>()
    return (info.state?.first_seq ?? 0) > 1
  })

const sumOf = (counts: Readonly<Record<string, number>>): number => Object.values(counts).reduce((sum, count) => sum + count, 0)

const refusalsIn = (server: Server): string[] => server.log.split("\n").filter((line) => /Violation|violation/.test(line))

/** Whether the server's trace of what clients have sent has such a subject. */
const isUsed = (subject: string, log: string): boolean => {
  const pattern = subject.replace(/[$.~]/g, "\\$&").replace(/\*/g, "[^. ]+").replace(">", "[^ ]+")
  return new RegExp(`<<- \\[H?(PUB|SUB) ${pattern}[ \\]]`).test(log)
}

const asUser = async <A>(
  { nats }: Secured,
  user: "worker" | "shop" | "root",
  use: (connection: NatsConnection) => Promise<A>
): Promise<A> => {
  const inboxPrefix = user === "shop" ? "_INBOX.shop" : "_INBOX.keyfold"
  const connection = await connect({ servers: nats.url, user, pass: secrets[user], inboxPrefix })
  try {
    return await use(connection)
  } finally {
    await connection.close()
  }
}

const restartWith = async (server: Server, example: string): Promise<void> => {
  const path = join(server.directory, "nats.conf")
  const text = readFileSync(path, "utf8")
  writeFileSync(path, text.slice(0, text.indexOf("trace: true")) + example)
  await server.restart()
}

const pairs = natsVersions()
  .map((nats, index) => [nats, redisVersions()[Math.min(index, redisVersions().length - 1)] as string] as const)
  .filter((pair) => !pair.includes(running))

describe.each(pairs)("nats-server %s, redis %s", (natsVersion, redisVersion) => {
  test("a job runs with the rights of the pages, and uses each of them", async () => {
    await using secured = await startSecured(natsVersion, redisVersion)
    await publishClicks(secured, 300)
    const limits = { checkpointEveryMs: 10, historyKeptMs: 0 }
    const query = await start(visitsJob, { runtime: runtimeFor(secured, "worker"), limits })
    let sent = 300
    // What the internal topic no longer needs is purged: that right is in use. Of every writer the last message stays.
    for (const stream of ["visits~count-0", "visits~count-1"]) {
      await until(`${stream} is purged`, async () => {
        await publishClicks(secured, 30)
        sent += 30
        await query.processAllAvailable()
        return isPurged(secured, stream)
      })
    }
    await publishClicks(secured, 1, "poison")
    await query.processAllAvailable()
    await query.stop()
    expect(sumOf(await countsIn(secured))).toBe(sent)
    expect(refusalsIn(secured.nats)).toEqual([])
    const { log } = secured.nats
    const subjects = [...natsExample().matchAll(/"([$\w~*>-]+\.[$\w~.*>-]+)"/g)].map((match) => match[1] as string)
    expect(subjects.length).toBeGreaterThan(15)
    expect(subjects.filter((subject) => !isUsed(subject, log))).toEqual([])
  })

  test("a job runs with the stricter rights that the page describes, and without the right to create", async () => {
    await using secured = await startSecured(natsVersion, redisVersion)
    await publishClicks(secured, 0)
    await countsAfterRun(secured) // creates what is missing
    expect(strictExample()).not.toMatch(/STREAM\.CREATE|STREAM\.\S*\*/)
    await restartWith(secured.nats, strictExample())
    await publishClicks(secured, 50)
    expect(sumOf(await countsAfterRun(secured))).toBe(50)
    expect(refusalsIn(secured.nats)).toEqual([])
  })

  test("nobody may do more: other topics, other people's answers, deleting", async () => {
    await using secured = await startSecured(natsVersion, redisVersion)
    await publishClicks(secured, 1)
    await countsAfterRun(secured)
    const refused = (user: "worker" | "shop", subject: string): Promise<string> =>
      asUser(secured, user, (connection) =>
        connection.request(subject, "{}", { timeout: 2_000 }).then(
          () => "answered",
          (thrown: Error) =>
            /Permissions Violation/.test(`${thrown.message} ${(thrown.cause as Error)?.message}`) ? "refused" : String(thrown)
        )
      )
    for (const subject of [
      "$JS.API.STREAM.DELETE.clicks-0",
      "$JS.API.STREAM.UPDATE.clicks-0",
      "$JS.API.STREAM.PURGE.clicks-0",
      "clicks.0"
    ]) {
      expect(await refused("worker", subject), subject).toBe("refused")
    }
    for (const subject of ["visits.0", "clicks.0.w", "$JS.API.CONSUMER.CREATE.clicks-0.c", "$JS.API.STREAM.MSG.GET.clicks-0"]) {
      expect(await refused("shop", subject), subject).toBe("refused")
    }
    const subscribed = (user: "worker" | "shop", subject: string): Promise<string> =>
      asUser(secured, user, async (connection) => {
        const news = connection.status()[Symbol.asyncIterator]()
        connection.subscribe(subject, { callback: () => undefined })
        await connection.flush()
        for (;;) {
          const { value } = await news.next()
          if (value?.type === "error") return value.error.name
        }
      })
    for (const subject of ["clicks.>", "_INBOX.>", "_INBOX.shop.>"]) {
      expect(await subscribed("worker", subject), subject).toBe("PermissionViolationError")
    }
    expect(await subscribed("shop", "_INBOX.keyfold.>")).toBe("PermissionViolationError")
  })
})

test("no secret is in the name of a runtime, in an explanation, or in what fails", async () => {
  await using nats = await startNats({ config: natsExample() })
  await using redis = await startRedis()
  const runtimes = [
    clustered({ nats: nats.url.replace("//", `//worker:not-${secrets.worker}@`), redis: redis.url }),
    clustered({ nats: nats.url.replace("//", `//${secrets.worker}@`), redis: redis.url }),
    clustered({
      nats: { servers: nats.url, user: "worker", password: secrets.worker },
      redis: redis.url.replace("//", `//u:${secrets.redis}@`)
    })
  ]
  expect(explain(visitsJob)).not.toContain("s3cret")
  for (const runtime of runtimes) {
    expect(JSON.stringify([runtime, runtime.name])).not.toContain("s3cret")
    const error: KeyfoldError = await start(visitsJob, { runtime }).then(
      () => expect.fail("it started"),
      (thrown) => thrown
    )
    expect(error.code).toBe("unreachable")
    expect(JSON.stringify([error.message, error.stack, error.cause, error.faults, String(error)])).not.toContain("s3cret")
  }
})
