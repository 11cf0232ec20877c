// Goal: the servers that tests run on do what tests ask of them: they keep what they acknowledged when they are killed and lose what they are
// told to lose, clusters survive the death of a node, the proxy cuts and swallows, and nothing of them is left behind.
// Method: real servers of every version at hand, talked to by the clients that keyfold uses. Waits are for conditions.
import { execFileSync, spawn } from "node:child_process"
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { connect as connectSocket } from "node:net"
import { join } from "node:path"
import { type JetStreamClient, jetstream, jetstreamManager, StorageType } from "@nats-io/jetstream"
import { connect, type NatsConnection } from "@nats-io/transport-node"
import { Cluster, Redis } from "ioredis"
import { describe, expect, test } from "vitest"
import { Child, freshDirectory, repository, until } from "../fixtures/world.ts"
import { startNatsCluster } from "../servers/nats-cluster.ts"
import { startNats } from "../servers/nats-server.ts"
import { takePort } from "../servers/ports.ts"
import { startProxy } from "../servers/proxy.ts"
import { startRedisCluster } from "../servers/redis-cluster.ts"
import { startWatchedRedis } from "../servers/redis-sentinel.ts"
import { startRedis } from "../servers/redis-server.ts"
import type { Server } from "../servers/server.ts"
import { restoreData, snapshotData } from "../servers/snapshot.ts"
import { binaryOf, canStart, compareVersions, natsVersions, redisVersions, running, serversFound } from "../servers/versions.ts"

const natsOwn = natsVersions().filter((version) => version !== running)
const redisOwn = redisVersions().filter((version) => version !== running)

const connected = async (servers: string | string[]): Promise<NatsConnection> =>
  connect({ servers, noAsyncTraces: true, maxReconnectAttempts: -1, reconnectTimeWait: 20, pingInterval: 500 })

const stored = async (connection: NatsConnection, stream: string): Promise<number> => {
  const manager = await jetstreamManager(connection)
  return (await manager.streams.info(stream)).state.messages
}

/** A client that says what happened instead of retrying in silence. */
const redisClient = (server: { readonly port: number }): Redis =>
  new Redis({ port: server.port, host: "127.0.0.1", retryStrategy: () => 20, maxRetriesPerRequest: null }).on("error", () => undefined)

/** Dead, or a zombie that nobody has collected yet (in a container without an init). */
const isGone = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return existsSync(`/proc/${pid}/stat`) && /^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"))
  } catch {
    return true
  }
}

describe.skipIf(!canStart("nats"))("nats-server", () => {
  test.for(natsOwn)("%s keeps what it acknowledged when it is killed, on the same port", async (version) => {
    await using server = await startNats({ version })
    expect(server.version).toBe(version)
    const connection = await connected(server.url)
    const manager = await jetstreamManager(connection)
    await manager.streams.add({ name: "S", subjects: ["s"], storage: StorageType.File })
    for (let index = 0; index < 10; index++) await jetstream(connection).publish("s", String(index))
    const { pid, port } = server
    await server.kill()
    expect(server.isRunning).toBe(false)
    expect(isGone(pid)).toBe(true)
    await server.restart()
    expect([server.port, server.pid === pid]).toEqual([port, false])
    await until("the client is back", () => connection.rtt().then(Boolean, () => false))
    expect(await stored(connection, "S")).toBe(10)
    await connection.close()
  })

  test.for(natsOwn)("%s that gets an older copy of its data back has lost its tail", async (version) => {
    await using server = await startNats({ version })
    const connection = await connected(server.url)
    await (await jetstreamManager(connection)).streams.add({ name: "S", subjects: ["s"], storage: StorageType.File })
    await jetstream(connection).publish("s", "kept")
    const snapshot = snapshotData(server)
    await jetstream(connection).publish("s", "lost")
    await restoreData(server, snapshot)
    await until("the client is back", () => connection.rtt().then(Boolean, () => false))
    expect(await stored(connection, "S")).toBe(1)
    await connection.close()
  })

  test("a paused one answers nothing until it goes on", async () => {
    await using server = await startNats()
    const connection = await connected(server.url)
    server.pause()
    const answer = connection.rtt()
    expect(await Promise.race([answer, new Promise((wake) => setTimeout(() => wake("silence"), 200))])).toBe("silence")
    server.resume()
    expect(await answer).toBeGreaterThanOrEqual(200)
    await connection.close()
  })

  test("takes lines of configuration, and a restart in order keeps them", async () => {
    await using server = await startNats({ config: 'authorization { user: "u", password: "p" }' })
    await expect(connected(server.url)).rejects.toThrow(/authorization/i)
    await server.restart()
    const connection = await connect({ servers: server.url, user: "u", pass: "p" })
    expect((await jetstreamManager(connection)).getAccountInfo).toBeTypeOf("function")
    await connection.close()
  })

  test("a configuration that it does not take is an error with the server's own words", async () => {
    await expect(startNats({ config: "no_such_setting: 1" })).rejects.toThrow(/no_such_setting/)
  })

  test("a port that is taken is an error when it was asked for", async () => {
    await using server = await startNats()
    await expect(startNats({ port: server.port })).rejects.toThrow(/address already in use/)
    await expect(startRedis({ port: server.port })).rejects.toThrow(/address already in use/i)
  })

  test("a version that is not there is an error that names those that are", () => {
    expect(() => binaryOf("nats", "1.0")).toThrow(`there is ${serversFound().nats[0]?.version}`)
  })
})

describe.skipIf(!canStart("redis"))("redis-server", () => {
  test.for(redisOwn)("%s keeps what it appended when it is killed, on the same port", async (version) => {
    await using server = await startRedis({ version, appendfsync: "always" })
    const client = redisClient(server)
    expect(await client.info("server")).toContain(`redis_version:${version}`)
    await client.set("a", "1")
    const { pid, port } = server
    await server.kill()
    await server.restart()
    expect([server.port, server.pid === pid]).toEqual([port, false])
    expect(await client.get("a")).toBe("1")
    client.disconnect()
  })

  test.for(redisOwn)("%s that gets an older copy of its data back has lost its tail", async (version) => {
    await using server = await startRedis({ version, appendfsync: "always" })
    const client = redisClient(server)
    await client.set("kept", "1")
    const snapshot = snapshotData(server)
    await client.set("lost", "1")
    await restoreData(server, snapshot)
    expect(await client.mget("kept", "lost")).toEqual(["1", null])
    await client.set("kept", "2")
    await restoreData(server, snapshot) // a copy serves more than once
    expect(await client.get("kept")).toBe("1")
    client.disconnect()
  })

  test("without its log it comes back empty", async () => {
    await using server = await startRedis({ appendonly: false })
    const client = redisClient(server)
    await client.set("a", "1")
    await server.kill()
    await server.restart()
    expect(await client.get("a")).toBeNull()
    client.disconnect()
  })

  test("with a password it counts as started", async () => {
    await using server = await startRedis({ args: ["--requirepass", "secret"] })
    const client = new Redis({ port: server.port, password: "secret" })
    expect(await client.ping()).toBe("PONG")
    client.disconnect()
  })
})

describe.skipIf(!canStart("nats"))("a NATS cluster", { timeout: 400_000 }, () => {
  const isTaken = (client: JetStreamClient): Promise<boolean> => client.publish("s", "", { timeout: 1_000 }).then(Boolean, () => false)

  // Without its leader a group needs 4 to 9 seconds to elect another: the default tier kills one node, the full tier each.
  test.for(natsOwn)("of %s forms, keeps three replicas, and survives the death of its leader", async (version) => {
    await using cluster = await startNatsCluster(3, { version })
    const connection = await connected([...cluster.urls])
    const manager = await jetstreamManager(connection)
    const { cluster: group } = await manager.streams.add({ name: "S", subjects: ["s"], num_replicas: 3 })
    expect(group?.replicas).toHaveLength(2)
    const leader = (await cluster.leader()) as Server
    expect(cluster.nodes).toContain(leader)
    expect(cluster.nodes).toContain(cluster.nodeOf(group?.leader as string))
    const victims = [leader, ...(process.env["KEYFOLD_TEST"] === "full" ? cluster.nodes.filter((node) => node !== leader) : [])]
    for (const victim of victims) {
      await victim.kill()
      await until("a publish is taken without the node", () => isTaken(jetstream(connection)))
      await cluster.ready()
      expect(await cluster.leader()).not.toBe(victim)
      await victim.restart()
      await cluster.ready()
    }
    expect(await stored(connection, "S")).toBeGreaterThanOrEqual(victims.length)
    await connection.close()
  })
})

describe.skipIf(!canStart("redis"))("a Redis", { timeout: 180_000 }, () => {
  test.for(redisOwn)("cluster of %s forms and fails over when a primary dies", async (version) => {
    await using cluster = await startRedisCluster({ version })
    const victim = cluster.nodes[0] as Server
    expect(await cluster.primaries()).toEqual(cluster.nodes.slice(0, 3))
    const client = new Cluster([{ host: "127.0.0.1", port: cluster.nodes[1]?.port as number }]).on("error", () => undefined)
    for (let index = 0; index < 30; index++) await client.set(`k${index}`, String(index))
    for (const node of await cluster.primaries()) await waitForReplica(node)
    await victim.kill()
    await until("a replica takes over", async () => (await cluster.primaries()).length === 3)
    await cluster.ready()
    for (let index = 0; index < 30; index++) expect(await client.get(`k${index}`)).toBe(String(index))
    await victim.restart()
    await cluster.ready()
    expect(await cluster.primaries()).not.toContain(victim)
    client.disconnect()
  })

  test("that sentinels watch gets another primary when its own dies", async () => {
    await using watched = await startWatchedRedis()
    const addresses = watched.sentinels.map(({ port }) => ({ host: "127.0.0.1", port }))
    const client = new Redis({ sentinels: addresses, name: watched.name, maxRetriesPerRequest: null }).on("error", () => undefined)
    await client.set("a", "1")
    await waitForReplica(watched.nodes[0] as Server)
    await watched.nodes[0]?.kill()
    await until("the sentinels name the replica", async () => (await watched.primary()) === watched.nodes[1])
    expect(await client.get("a")).toBe("1")
    client.disconnect()
  })

  const waitForReplica = async (node: Server): Promise<void> => {
    const client = redisClient(node)
    expect(await client.wait(1, 10_000)).toBe(1)
    client.disconnect()
  }
})

describe.skipIf(!canStart("redis"))("the proxy", () => {
  const proxied = async () => {
    const server = await startRedis()
    const proxy = await startProxy({ to: server.port })
    const client = redisClient(proxy)
    await client.set("a", "1")
    return {
      server,
      proxy,
      client,
      [Symbol.asyncDispose]: async () => {
        client.disconnect()
        await proxy.stop()
        await server.stop()
      }
    }
  }

  test("hands on what it gets, however much", async () => {
    await using world = await proxied()
    const value = Buffer.alloc(20_000_000, "keyfold ")
    await world.client.set("big", value)
    expect(value.equals((await world.client.getBuffer("big")) as Buffer)).toBe(true)
  })

  test("cuts the connections that are open, and serves the next", async () => {
    await using world = await proxied()
    const closed = new Promise((done) => world.client.once("close", done))
    world.proxy.cut()
    await closed
    expect(await world.client.get("a")).toBe("1")
  })

  test("swallows bytes of both directions and tells nobody; afterwards these connections are cut", async () => {
    await using world = await proxied()
    let closings = 0
    world.client.on("close", () => closings++)
    world.proxy.swallow(true)
    const answer = world.client.incr("counter")
    expect(await Promise.race([answer, new Promise((wake) => setTimeout(() => wake("silence"), 300))])).toBe("silence")
    const direct = redisClient(world.server)
    expect([closings, await direct.get("counter")]).toEqual([0, null])
    world.proxy.swallow(false)
    expect(await answer).toBe(1) // the client sent it again, on a new connection
    expect([closings, await direct.get("counter")]).toEqual([1, "1"])
    direct.disconnect()
  })

  test("swallows the server's end too", async () => {
    await using world = await proxied()
    let closings = 0
    world.client.on("close", () => closings++)
    world.proxy.swallow(true)
    await world.server.kill()
    await world.server.restart()
    expect([closings, world.proxy.connectionCount]).toEqual([0, 1])
    world.proxy.swallow(false)
    await until("the client notices", () => closings > 0)
  })

  test("holds bytes back and lets all of them go on", async () => {
    await using world = await proxied()
    let closings = 0
    world.client.on("close", () => closings++)
    world.proxy.hold(true)
    const answers = [world.client.incr("counter"), world.client.incr("counter")]
    expect(await Promise.race([...answers, new Promise((wake) => setTimeout(() => wake("silence"), 200))])).toBe("silence")
    world.proxy.hold(false)
    expect(await Promise.all(answers)).toEqual([1, 2])
    expect(closings).toBe(0)
  })

  test("delays each direction and keeps the order", async () => {
    await using world = await proxied()
    world.proxy.delay(100)
    const begin = performance.now()
    const answers = await Promise.all(Array.from({ length: 50 }, () => world.client.incr("counter")))
    expect(answers).toEqual(Array.from({ length: 50 }, (_, index) => index + 1))
    expect(performance.now() - begin).toBeGreaterThanOrEqual(199)
  })

  test("refuses new connections, as when nobody listens, and serves them again", async () => {
    await using world = await proxied()
    const attempt = (): Promise<string> =>
      new Promise((answer) => {
        const socket = connectSocket(world.proxy.port, "127.0.0.1")
        socket.on("connect", () => answer("connected"))
        socket.on("error", (failure: NodeJS.ErrnoException) => answer(failure.code as string))
        socket.on("connect", () => socket.destroy())
      })
    await world.proxy.refuse(true)
    expect([await attempt(), await world.client.get("a")]).toEqual(["ECONNREFUSED", "1"])
    await world.proxy.refuse(false)
    expect(await attempt()).toBe("connected")
  })
})

const serversModule = (name: string): string => JSON.stringify(join(repository, "test/servers", name))

describe.skipIf(!canStart("nats") || !canStart("redis"))("nothing is left", () => {
  test("of a server that was stopped", async () => {
    for (const server of [await startNats(), await startRedis()]) {
      const { pid, directory } = server
      expect(existsSync(directory)).toBe(true)
      await server.stop()
      expect([isGone(pid), existsSync(directory)]).toEqual([true, false])
    }
  })

  test.for(["SIGKILL", "SIGTERM", "process.exit()"])("of servers whose test process ended by %s, even of a paused one", async (how) => {
    const script = `
      import { startNats } from ${serversModule("nats-server.ts")}
      import { startRedis } from ${serversModule("redis-server.ts")}
      const servers = [await startNats(), await startRedis()]
      servers[1].pause()
      console.log(JSON.stringify(servers.map(({ pid, directory }) => ({ pid, directory }))))
      process.stdin.on("data", () => process.exit())
    `
    const child = new Child(["--input-type=module-typescript", "--eval", script])
    const started = JSON.parse(await child.says("[")) as { pid: number; directory: string }[]
    expect(started.map(({ pid }) => isGone(pid))).toEqual([false, false])
    if (how === "process.exit()") child.tell("go")
    else child.process.kill(how as NodeJS.Signals)
    await child.ended
    for (const { pid, directory } of started)
      await until("the server is gone with its directory", () => isGone(pid) && !existsSync(directory))
  })
})

describe("the servers are found", () => {
  /** A directory with programs that are shell scripts. */
  const programs = (scripts: Readonly<Record<string, string>>): string => {
    const folder = freshDirectory()
    mkdirSync(folder)
    for (const [name, text] of Object.entries(scripts)) writeFileSync(join(folder, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 })
    return folder
  }

  /** Another process looks, with an empty cache, and with nothing but what is given on its PATH and in its environment. */
  const provisioned = async (path: string, variables: Readonly<Record<string, string>>, cache: string = freshDirectory()) => {
    const script = `
      import { lineOf, provision } from ${serversModule("provision.ts")}
      import { natsVersions } from ${serversModule("versions.ts")}
      const found = await provision(${JSON.stringify({ cache, folders: [] })})
      console.log(lineOf(found))
      console.log(JSON.stringify({ ...found, versions: natsVersions() }))
    `
    const child = spawn(process.execPath, ["--input-type=module-typescript", "--eval", script], { env: { PATH: path, ...variables } })
    let [stdout, stderr] = ["", ""]
    child.stdout.on("data", (chunk) => (stdout += chunk))
    child.stderr.on("data", (chunk) => (stderr += chunk))
    const code = await new Promise((done) => child.on("close", done))
    const [line, json] = stdout.trim().split("\n")
    return { code, line, stderr, found: json === undefined ? undefined : JSON.parse(json) }
  }
  const sayNats = (version: string): string => `echo "nats-server: v${version}"`
  const sayRedis = 'echo "Redis server v=7.2.4 sha=00000000:0 malloc=libc bits=64 build=0"'

  test("where the environment names binaries: these, oldest first, and no others", async () => {
    const named = programs({ newer: sayNats("2.15.1"), older: sayNats("2.9.10"), redis: sayRedis })
    const world = await provisioned(programs({ "nats-server": sayNats("2.11.0") }), {
      KEYFOLD_NATS_SERVER: `${join(named, "newer")}:${join(named, "older")}`,
      KEYFOLD_REDIS_SERVER: join(named, "redis")
    })
    expect([world.line, world.stderr]).toEqual(["servers: nats-server 2.9.10, 2.15.1; redis-server 7.2.4", ""])
  })

  test("on PATH, and what Debian would add is said to be missing, with the reason", async () => {
    const world = await provisioned(programs({ "nats-server": sayNats("2.11.0"), "redis-server": sayRedis }), {})
    expect(world.line).toBe("servers: nats-server 2.11.0; redis-server 7.2.4")
    expect(world.stderr).toMatch(/not available: nats-server of Debian forky: there is no apt-get/)
  })

  // The real packages are what the other tests of this file run on.
  test.skipIf(!existsSync("/usr/share/keyrings/debian-archive-keyring.gpg"))(
    "in Debian's packages, unpacked once; a suite that cannot be had is named, with apt's words",
    async () => {
      const path = programs({
        "apt-get": `
          for word in "$@"; do
            case $word in Dir::Etc::SourceList=*) if /bin/grep -q forky "\${word#*=}"; then echo "E: forky is not to be had" >&2; exit 100; fi ;; esac
          done
          for word in "$@"; do case $word in nats-server|redis-server|redis-tools) : > "$word.deb" ;; esac; done`,
        dpkg: `
          /bin/mkdir -p "$3/usr/sbin" "$3/usr/bin"
          case $2 in *nats*) file=usr/sbin/nats-server; said="nats-server: v2.10.27" ;; *) file=usr/bin/redis-server; said="Redis server v=7.0.15" ;; esac
          printf '#!/bin/sh\necho "%s"\n' "$said" > "$3/$file"
          /bin/chmod 755 "$3/$file"`
      })
      const cache = freshDirectory()
      const world = await provisioned(path, {}, cache)
      expect(world.line).toBe("servers: nats-server 2.10.27; redis-server 7.0.15")
      expect(world.stderr).toBe("servers: not available: nats-server of Debian forky: E: forky is not to be had\n")
      for (const name of readdirSync(path)) rmSync(join(path, name))
      expect((await provisioned(path, {}, cache)).line).toBe(world.line)
      expect(readdirSync(cache).toSorted()).toEqual(["bookworm", "trixie"])
    }
  )

  test("where the environment names addresses: these stand for all versions", async () => {
    const addresses = { KEYFOLD_TEST_NATS: "nats://127.0.0.1:1", KEYFOLD_TEST_REDIS: "redis://127.0.0.1:2" }
    const world = await provisioned(programs({}), addresses)
    expect([world.line, world.stderr]).toEqual(["servers: nats-server that is running; redis-server that is running", ""])
    expect(world.found).toMatchObject({ natsUrl: "nats://127.0.0.1:1", redisUrl: "redis://127.0.0.1:2", versions: [running] })
  })

  test("by docker compose, when nothing else is there", async () => {
    const path = programs({ docker: 'echo "$@" >> "$0.log"' })
    const world = await provisioned(path, {})
    expect(world.found).toMatchObject({ nats: [], natsUrl: "nats://127.0.0.1:4222", redisUrl: "redis://127.0.0.1:6379" })
    expect(readFileSync(join(path, "docker.log"), "utf8")).toContain("up --wait nats")
  })

  test("or the run fails and says what to do", async () => {
    const world = await provisioned(programs({}), {})
    expect(world.code).toBe(1)
    expect(world.stderr).toContain("the tests need a nats-server and found none: install it (Debian: apt-get install nats-server)")
  })

  test("a named binary that does not run is an error", async () => {
    const world = await provisioned(programs({}), { KEYFOLD_NATS_SERVER: "/no/such/nats-server" })
    expect(world.stderr).toContain("/no/such/nats-server, which the environment names, is no server that runs here")
  })

  test("versions are compared by their numbers", () => {
    expect(["2.10.1", "2.9.10", "2.15.0", "2.9.9"].toSorted(compareVersions)).toEqual(["2.9.9", "2.9.10", "2.10.1", "2.15.0"])
  })

  test("a server that somebody else runs is used as it is, and cannot be killed", async () => {
    const port = await takePort()
    const address = JSON.stringify({ nats: [], redis: [], natsUrl: `nats://127.0.0.1:${port}`, redisUrl: `redis://127.0.0.1:${port}` })
    const script = `
      import { startRedis } from ${serversModule("redis-server.ts")}
      const server = await startRedis({ version: "running" })
      await server.stop()
      try { await server.kill() } catch (failure) { console.log(server.url, failure.message) }
    `
    const said = execFileSync(process.execPath, ["--input-type=module-typescript", "--eval", script], {
      env: { ...process.env, KEYFOLD_SERVERS_FOUND: address },
      encoding: "utf8"
    })
    expect(said).toContain(`redis://127.0.0.1:${port} redis://127.0.0.1:${port} is not the tests' own`)
  })
})
