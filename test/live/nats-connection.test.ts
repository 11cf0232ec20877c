// Goal: the connection to NATS comes about in every way it can be asked for, keeps its secrets, says what helps when it does not come about,
// notices when it is dead, and is gone when it is closed.
// Method: real servers with users, nkeys, credentials and certificates; proxies that swallow and hold. Waits are for conditions.
import { execFileSync } from "node:child_process"
import { subscribe, unsubscribe } from "node:diagnostics_channel"
import { readFileSync, writeFileSync } from "node:fs"
import { createServer, type Socket } from "node:net"
import { dirname, join } from "node:path"
import { connect, nkeys } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { describe, expect, test } from "vitest"
import type { KeyfoldError } from "../../src/errors.ts"
import { connectNats, type NatsLink } from "../../src/runtime/nats.ts"
import { type NatsOptions, natsSettings } from "../../src/runtime/nats-settings.ts"
import { abandon, dropWhenStale } from "../../src/runtime/nats-sockets.ts"
import { hasOpenssl, makeCertificates } from "../servers/certificates.ts"
import { startNatsCluster } from "../servers/nats-cluster.ts"
import { makeNatsOperator } from "../servers/nats-operator.ts"
import { startNats } from "../servers/nats-server.ts"
import { takePort } from "../servers/ports.ts"
import { startProxy } from "../servers/proxy.ts"
import { sleep } from "../servers/server.ts"
import { compareVersions, natsVersions, running } from "../servers/versions.ts"

const versions = natsVersions().filter((version) => version !== running)
const secret = "p@ss,w:rd%s3cret"
const escaped = encodeURIComponent(secret)

const run = <A>(body: Effect.Effect<A, KeyfoldError, Scope.Scope>): Promise<A> => Effect.runPromise(Effect.scoped(body))

const connected = (
  nats: string | NatsOptions,
  environment: Record<string, string> = {}
): Effect.Effect<NatsLink, KeyfoldError, Scope.Scope> =>
  Effect.flatMap(Effect.try({ try: () => natsSettings(nats, environment), catch: (thrown) => thrown as KeyfoldError }), connectNats)

/** JetStream takes a message and gives it back. */
const works = (nats: string | NatsOptions, environment: Record<string, string> = {}): Promise<NatsLink> =>
  run(Effect.tap(connected(nats, environment), (link) => Effect.promise(() => echo(link))))

const echo = async ({ connection }: NatsLink): Promise<void> => {
  const stream = { name: "clicks-0", subjects: ["clicks.0.>"] }
  await connection.request("$JS.API.STREAM.CREATE.clicks-0", JSON.stringify(stream))
  const stored = (await connection.request("clicks.0.w", "hello")).json<{ readonly seq: number }>()
  const got = await connection.request("$JS.API.STREAM.MSG.GET.clicks-0", JSON.stringify({ seq: stored.seq }))
  expect(Buffer.from(got.json<{ readonly message: { readonly data: string } }>().message.data, "base64").toString()).toBe("hello")
}

/** What an attempt that must fail fails with; it says nothing that is secret. */
const refusal = async (nats: string | NatsOptions, environment: Record<string, string> = {}): Promise<KeyfoldError> => {
  const error = await run(Effect.flip(connected(nats, environment)).pipe(Effect.catch(() => Effect.die("it did not fail"))))
  expect(JSON.stringify([error.message, error.stack, error.cause, error.faults])).not.toMatch(/s3cret|SU[A-Z2-7]{20}|eyJ/)
  return error
}

const until = async (condition: () => boolean | Promise<boolean>): Promise<void> => {
  while (!(await condition())) await sleep(5)
}

/** Answers within 200 ms. */
const isAlive = ({ connection }: NatsLink): Promise<boolean> =>
  Promise.race([
    connection.flush().then(
      () => true,
      () => false
    ),
    sleep(200).then(() => false)
  ])

describe.each(versions)("nats-server %s", { concurrent: true }, (version) => {
  test("what is known of a server once it is connected", async () => {
    await using server = await startNats({ version })
    const link = await works(server.url)
    expect(link.name).toBe(`NATS at 127.0.0.1:${server.port}`)
    expect([link.version(), link.isClustered]).toEqual([version, false])
  })

  test("user and password, in every way that they can be given", async () => {
    await using server = await startNats({ version, config: `authorization { user: "keyfold", password: ${JSON.stringify(secret)} }` })
    const at = `127.0.0.1:${server.port}`
    const passwordFile = join(server.directory, "password")
    writeFileSync(passwordFile, `${secret}\n`)
    await works(`nats://keyfold:${escaped}@${at}`)
    await works({ servers: server.url, user: "keyfold", password: secret })
    await works({ servers: `nats://keyfold@${at}`, passwordFile })
    await works(server.url, { KEYFOLD_NATS_USER: "keyfold", KEYFOLD_NATS_PASSWORD: secret })
    for (const wrong of [`nats://keyfold:${escaped}wrong@${at}`, `nats://${escaped}@${at}`, server.url]) {
      const begin = performance.now()
      const { code, message } = await refusal(wrong)
      expect(code).toBe("unreachable")
      expect(message).toBe(
        `NATS at ${at} cannot be reached (it refuses us: Authorization Violation. Check user, password, token, credentials or nkey). Start it, or mend the address`
      )
      expect(performance.now() - begin).toBeLessThan(2_000)
    }
  })

  test("a token", async () => {
    await using server = await startNats({ version, config: `authorization { token: ${JSON.stringify(secret)} }` })
    const tokenFile = join(server.directory, "token")
    writeFileSync(tokenFile, `${secret}\n`)
    await works(`nats://${escaped}@127.0.0.1:${server.port}`)
    await works({ servers: server.url, tokenFile })
    await works(server.url, { KEYFOLD_NATS_TOKEN: secret })
    expect((await refusal({ servers: server.url, token: "s3cret" })).message).toContain("it refuses us: Authorization Violation")
  })

  test("an nkey", async () => {
    const [user, stranger] = [nkeys.createUser(), nkeys.createUser()]
    await using server = await startNats({ version, config: `authorization { users: [{ nkey: ${user.getPublicKey()} }] }` })
    const nkeySeedFile = join(server.directory, "seed")
    writeFileSync(nkeySeedFile, user.getSeed())
    await works({ servers: server.url, nkeySeedFile })
    await works(server.url, { KEYFOLD_NATS_NKEY_SEED_FILE: nkeySeedFile })
    writeFileSync(nkeySeedFile, stranger.getSeed())
    expect((await refusal({ servers: server.url, nkeySeedFile })).message).toContain("it refuses us: Authorization Violation")
  })

  test("a credentials file", async () => {
    const operator = makeNatsOperator()
    await using server = await startNats({ version, config: operator.config })
    const credsFile = operator.credsFile("worker")
    await works({ servers: server.url, credsFile })
    await works(server.url, { KEYFOLD_NATS_CREDS_FILE: credsFile })
    const stranger = await refusal({ servers: server.url, credsFile: operator.strangerFile("stranger") })
    expect(stranger.message).toContain("it refuses us: Authorization Violation")
    writeFileSync(credsFile, readFileSync(credsFile, "utf8").replace(/eyJ[\w.-]+/, ""))
    expect((await refusal({ servers: server.url, credsFile })).code).toBe("option-invalid")
  })

  test("a user that may not ask JetStream is told what it lacks", async () => {
    const rights = 'permissions: { publish: { deny: ["$JS.API.>"] } }'
    await using server = await startNats({ version, config: `authorization { users: [{ user: u, password: s3cret, ${rights} }] }` })
    const { message } = await refusal({ servers: server.url, user: "u", password: "s3cret" })
    expect(message).toMatch(/it refuses us: Permissions Violation for Publish to "\$JS\.API\.INFO"\. Check the user's rights/)
  })

  test("a secret that is renewed lets a worker in again that was refused meanwhile", async () => {
    const configOf = (password: string): string => `authorization { user: u, password: ${password} }`
    await using server = await startNats({ version, config: configOf("first-s3cret") })
    const passwordFile = join(server.directory, "password")
    writeFileSync(passwordFile, "first-s3cret")
    await run(
      Effect.gen(function* () {
        const link = yield* connected({ servers: server.url, user: "u", passwordFile })
        const refusals: string[] = []
        void (async () => {
          for await (const news of link.connection.status()) if (news.type === "error") refusals.push(news.error.name)
        })()
        const configPath = join(server.directory, "nats.conf")
        writeFileSync(configPath, readFileSync(configPath, "utf8").replace("first-s3cret", "second-s3cret"))
        yield* Effect.promise(() => server.restart())
        // The client's own way is to give up for ever after the second.
        yield* Effect.promise(() => until(() => refusals.filter((name) => name === "AuthorizationError").length >= 3))
        writeFileSync(passwordFile, "second-s3cret")
        yield* Effect.promise(() => until(() => isAlive(link)))
        yield* Effect.promise(() => echo(link))
      })
    )
  })

  test("a server without JetStream, and an account without it, are said to be so", async () => {
    await using server = await startNats({ version, jetstream: "enabled: false" })
    expect((await refusal(server.url)).message).toContain(
      "JetStream is not enabled: give the server a jetstream block, or start it with -js"
    )
    const accounts = "accounts { A { users: [{ user: u, password: p }] }, B { jetstream: enabled, users: [{ user: b, password: p }] } }"
    await using other = await startNats({ version, config: accounts })
    expect((await refusal(`nats://u:p@127.0.0.1:${other.port}`)).message).toContain("JetStream is not enabled for this user's account")
    await works(`nats://b:p@127.0.0.1:${other.port}`)
  })

  test("an address where nobody listens is said, with the reason; a server that is just being started is waited for", async () => {
    const port = await takePort()
    const { code, message } = await refusal(`nats://127.0.0.1:${port}`)
    expect(code).toBe("unreachable")
    expect(message).toContain(`NATS at 127.0.0.1:${port} cannot be reached (connect ECONNREFUSED 127.0.0.1:${port})`)
    const waiting = works(`nats://127.0.0.1:${port}`)
    await sleep(300)
    await using _server = await startNats({ version, port })
    await waiting
  })

  test("of several servers one is enough", async () => {
    await using server = await startNats({ version })
    await works(`nats://127.0.0.1:${await takePort()},127.0.0.1:${server.port}`)
  })

  test("a server that accepts and says nothing is unreachable after a bounded time", async () => {
    await using server = await startNats({ version })
    server.pause()
    const begin = performance.now()
    const { message } = await refusal(server.url)
    server.resume()
    expect(message).toContain("it does not answer")
    expect(performance.now() - begin).toBeLessThan(10_000)
  })

  test("half-open: a connection whose bytes are swallowed is given up within seconds, and comes back", async () => {
    await using server = await startNats({ version })
    await using proxy = await startProxy({ to: server.port })
    await run(
      Effect.gen(function* () {
        const link = yield* connected(`nats://127.0.0.1:${proxy.port}`)
        const fallen = newsOf(link, "disconnect")
        proxy.swallow(true)
        const begin = performance.now()
        yield* Effect.promise(() => fallen)
        expect(performance.now() - begin).toBeLessThan(6_000) // 3 s, and what a busy machine adds
        proxy.swallow(false)
        yield* Effect.promise(() => until(() => isAlive(link)))
        yield* Effect.promise(() => echo(link))
      })
    )
  })

  test("half-open under load: a connection with bytes that cannot leave is given up as well", async () => {
    await using server = await startNats({ version })
    await using proxy = await startProxy({ to: server.port })
    await run(
      Effect.gen(function* () {
        const link = yield* connected(`nats://127.0.0.1:${proxy.port}`)
        const [stale, fallen] = [newsOf(link, "staleConnection"), newsOf(link, "disconnect")]
        proxy.hold(true)
        for (let count = 0; count < 60; count++) link.connection.publish("load", Buffer.alloc(500_000))
        yield* Effect.promise(() => stale)
        const begin = performance.now()
        yield* Effect.promise(() => fallen)
        expect(performance.now() - begin).toBeLessThan(2_000)
        proxy.hold(false)
        yield* Effect.promise(() => until(() => isAlive(link)))
        yield* Effect.promise(() => echo(link))
      })
    )
  })

  test("it comes back after the server was killed, and is closed at once while the server is away", async () => {
    await using server = await startNats({ version })
    let closed = 0
    await run(
      Effect.gen(function* () {
        const link = yield* connected(server.url)
        yield* Effect.promise(() => server.kill())
        yield* Effect.promise(() => server.start())
        yield* Effect.promise(() => until(() => isAlive(link)))
        const fallen = newsOf(link, "disconnect")
        yield* Effect.promise(() => server.kill())
        yield* Effect.promise(() => fallen)
        closed = performance.now()
      })
    )
    expect(performance.now() - closed).toBeLessThan(500)
  })

  // Without openssl there are no certificates; CI has it.
  describe.skipIf(!hasOpenssl())("TLS", () => {
    const certificates = makeCertificates()
    const { caFile, serverCertFile, serverKeyFile, clientCertFile, clientKeyFile } = certificates
    const serving = (more = "", files = { cert: serverCertFile, key: serverKeyFile }): string =>
      `tls { cert_file: "${files.cert}", key_file: "${files.key}", ca_file: "${caFile}"\n ${more} }`

    test("a trusted authority, and nothing else", async () => {
      await using server = await startNats({ version, config: serving() })
      const address = `tls://127.0.0.1:${server.port}`
      await works({ servers: address, tls: { caFile } })
      await works({ servers: server.url, tls: { caFile } })
      await works(address, { KEYFOLD_NATS_CA_FILE: caFile })
      await works(`tls://localhost:${server.port}`, { KEYFOLD_NATS_CA_FILE: caFile })
      for (const untrusting of [address, server.url]) {
        const begin = performance.now()
        const { code, message } = await refusal(untrusting)
        expect(code).toBe("unreachable")
        expect(message).toMatch(/certificate.*Name the authority to trust in tls\.caFile or KEYFOLD_NATS_CA_FILE/)
        expect(performance.now() - begin).toBeLessThan(2_000)
      }
    })

    test("a certificate of our own, where the server asks for one", async () => {
      await using server = await startNats({ version, config: serving("verify: true") })
      const servers = `tls://127.0.0.1:${server.port}`
      await works({ servers, tls: { caFile, certFile: clientCertFile, keyFile: clientKeyFile } })
      const environment = { KEYFOLD_NATS_CA_FILE: caFile, KEYFOLD_NATS_CERT_FILE: clientCertFile, KEYFOLD_NATS_KEY_FILE: clientKeyFile }
      await works(servers, environment)
      expect((await refusal({ servers, tls: { caFile } })).message).toContain(
        "it does not answer, or wants a certificate of ours: tls.certFile"
      )
    })

    test("tls:// never speaks to a server without TLS", async () => {
      await using server = await startNats({ version, config: `authorization { user: u, password: ${JSON.stringify(secret)} }` })
      const { message } = await refusal(`tls://u:${escaped}@127.0.0.1:${server.port}`)
      expect(message).toContain("server does not support 'tls'")
    })

    test("an address without a name must be in the certificate; a certificate for localhost is not enough", async () => {
      const certFor = (name: string, names: string): { cert: string; key: string } => {
        const directory = dirname(caFile)
        const openssl = (...args: string[]): void => void execFileSync("openssl", args, { cwd: directory, stdio: "pipe" })
        const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        writeFileSync(join(directory, `${name}.ext`), `subjectAltName=${names}\n`)
        openssl("req", ...newKey, "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", `/CN=${name}`)
        const signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", `${name}.ext`]
        openssl("x509", "-req", "-in", `${name}.csr`, "-out", `${name}.crt`, ...signed)
        return { cert: join(directory, `${name}.crt`), key: join(directory, `${name}.key`) }
      }
      await using named = await startNats({ version, config: serving("", certFor("named", "DNS:localhost")) })
      await works({ servers: `tls://localhost:${named.port}`, tls: { caFile } })
      await works({ servers: `tls://127.0.0.1:${named.port}`, tls: { caFile, serverName: "localhost" } })
      expect((await refusal({ servers: `tls://127.0.0.1:${named.port}`, tls: { caFile } })).message).toContain("altnames")
      await using numbered = await startNats({ version, config: serving("", certFor("numbered", "IP:127.0.0.1")) })
      await works({ servers: `tls://127.0.0.1:${numbered.port}`, tls: { caFile } })
      expect((await refusal({ servers: `tls://localhost:${numbered.port}`, tls: { caFile } })).message).toContain("altnames")
    })
  })
})

test("a cluster: connected by any of its nodes, JetStream found once it has a leader", async () => {
  await using cluster = await startNatsCluster()
  const link = await works(cluster.url)
  expect(link.isClustered).toBe(true)
  expect(compareVersions(link.version(), "2.9.0")).toBeGreaterThan(0)
})

test("no socket is left when a connection is closed while the client dials a server that says nothing", async () => {
  await using server = await startNats()
  await using proxy = await startProxy({ to: server.port })
  const open = new Set<object>()
  const silent = createServer((socket) => {
    open.add(socket)
    socket.on("close", () => open.delete(socket)).on("error", () => undefined)
  })
  await run(
    Effect.gen(function* () {
      const link = yield* connected(`nats://127.0.0.1:${proxy.port}`)
      yield* Effect.promise(() => proxy.stop())
      yield* Effect.promise(() => new Promise<void>((done) => silent.listen(proxy.port, "127.0.0.1", done)))
      yield* Effect.promise(() => until(() => open.size > 0))
      expect(link.connection.isClosed()).toBe(false)
    })
  )
  await until(() => open.size === 0)
  silent.close()
})

test("closing just when the server has hung up and something is still said to it does not end the process", async () => {
  await using server = await startNats()
  const sockets: Socket[] = []
  const note = (message: unknown): void => void sockets.push((message as { readonly socket: Socket }).socket)
  const uncaught: unknown[] = []
  const take = (thrown: unknown): void => void uncaught.push(thrown)
  // In the place of the test runner's, which would fail the run instead of the test.
  const others = process.listeners("uncaughtException")
  process.removeAllListeners("uncaughtException").on("uncaughtException", take)
  subscribe("net.client.socket", note)
  try {
    const connection = await connect({ servers: server.url })
    void dropWhenStale(connection, () => undefined)
    const [socket] = sockets as [Socket]
    const end = socket.end.bind(socket)
    const hungUp = Promise.withResolvers<void>()
    socket.end = () => {
      hungUp.resolve()
      return end()
    }
    void server.kill()
    await hungUp.promise
    connection.publish("clicks", "late")
    await abandon(connection)
    await new Promise((done) => setImmediate(done))
    expect(uncaught).toEqual([])
  } finally {
    unsubscribe("net.client.socket", note)
    process.removeListener("uncaughtException", take)
    for (const other of others) process.on("uncaughtException", other)
  }
})

test("a connection that is no longer wanted before it comes about is not kept", async () => {
  await using server = await startNats()
  await using proxy = await startProxy({ to: server.port })
  proxy.hold(true)
  const attempt = run(Effect.timeoutOption(connected(`nats://127.0.0.1:${proxy.port}`), "100 millis"))
  expect(await attempt).toMatchObject({ _tag: "None" })
  proxy.hold(false)
  await until(() => proxy.connectionCount === 0)
})

/** Comes true with the next news of this kind. */
const newsOf = async ({ connection }: NatsLink, type: string): Promise<void> => {
  for await (const news of connection.status()) if (news.type === type) return
}
