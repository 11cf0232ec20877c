/** A TCP proxy on a loopback port that does to connections what networks do. */
import { connect, createServer, type Server, type Socket } from "node:net"
import { releasePort, takePort } from "./ports.ts"
import { sleep } from "./server.ts"

export interface Proxy extends AsyncDisposable {
  readonly port: number
  /** The connections that are open now. */
  readonly connectionCount: number
  /** Ends all connections now, with a reset; new ones are served. */
  cut(): void
  /**
   * Half-open: bytes of both directions are taken and dropped, and nobody is told. When it ends, the connections that lost bytes are cut: what
   * would follow on them makes no sense.
   */
  swallow(on: boolean): void
  /** A network that stands still: bytes wait, and arrive when it goes on. New connections are accepted and wait too. */
  hold(on: boolean): void
  /** Every byte takes this long, in each direction. */
  delay(milliseconds: number): void
  /** New connections are refused, as when nobody listens; those that are open stay. Returns when it is so. */
  refuse(on: boolean): Promise<void>
  stop(): Promise<void>
}

interface Weather {
  isSwallowing: boolean
  isHolding: boolean
  delayMs: number
}

/** One connection of a client, and ours to the server in its name. */
interface Pair {
  readonly client: Socket
  readonly server: Socket
  hasLost: boolean
}

const waitingBytesMax = 1_048_576

export const startProxy = async (options: { readonly to: number; readonly port?: number }): Promise<Proxy> => {
  const port = options.port ?? (await takePort())
  const pairs = new Set<Pair>()
  const weather: Weather = { isSwallowing: false, isHolding: false, delayMs: 0 }
  const cut = (which: (pair: Pair) => boolean): void => {
    for (const pair of [...pairs].filter(which)) for (const socket of [pair.client, pair.server]) socket.resetAndDestroy()
  }
  const serve = (): Promise<Server> => listening(port, (client) => join(client, options.to, weather, pairs))
  let listener: Server | undefined = await serve()
  const refuse = async (on: boolean): Promise<void> => {
    if (on) listener?.close() // at once; its callback would wait for the connections that stay
    listener = on ? undefined : (listener ?? (await serve()))
  }
  const stop = async (): Promise<void> => {
    await refuse(true)
    cut(() => true)
    releasePort(port)
  }
  return {
    port,
    get connectionCount() {
      return pairs.size
    },
    cut: () => cut(() => true),
    swallow: (on) => {
      weather.isSwallowing = on
      if (!on) cut((pair) => pair.hasLost)
    },
    hold: (on) => {
      weather.isHolding = on
    },
    delay: (milliseconds) => {
      weather.delayMs = milliseconds
    },
    refuse,
    stop,
    [Symbol.asyncDispose]: stop
  }
}

const listening = (port: number, serve: (client: Socket) => void): Promise<Server> =>
  new Promise((ready, fail) => {
    const listener = createServer({ allowHalfOpen: true, noDelay: true }, serve)
    listener.once("error", fail)
    listener.listen(port, "127.0.0.1", () => ready(listener))
  })

const join = (client: Socket, to: number, weather: Weather, pairs: Set<Pair>): void => {
  const server = connect({ port: to, host: "127.0.0.1", allowHalfOpen: true, noDelay: true })
  const pair: Pair = { client, server, hasLost: false }
  pairs.add(pair)
  forward(client, server, pair, weather)
  forward(server, client, pair, weather)
  for (const socket of [client, server]) {
    socket.on("close", () => client.destroyed && server.destroyed && pairs.delete(pair))
  }
}

/** What arrives on one side goes out on the other, in order and with the delay of the moment of its arrival. */
const forward = (from: Socket, to: Socket, pair: Pair, weather: Weather): void => {
  let waitingBytes = 0
  let last: Promise<void> = Promise.resolve()
  const then = (step: () => Promise<void> | void): void => {
    const dueMs = performance.now() + weather.delayMs
    last = last.then(async () => {
      const waitMs = dueMs - performance.now()
      if (waitMs > 0) await sleep(waitMs)
      while (weather.isHolding && !to.destroyed) await sleep(2)
      await step()
    })
  }
  from.on("data", (chunk) => {
    if (weather.isSwallowing) {
      pair.hasLost = true
      return
    }
    waitingBytes += chunk.length
    if (waitingBytes > waitingBytesMax) from.pause()
    then(async () => {
      if (!to.destroyed && !to.write(chunk)) await drained(to)
      waitingBytes -= chunk.length
      if (waitingBytes <= waitingBytesMax / 2) from.resume()
    })
  })
  // An end is swallowed like any byte: the other side goes on believing in its connection.
  const end = (finish: () => void): void => {
    if (weather.isSwallowing) pair.hasLost = true
    else then(finish)
  }
  from.on("end", () => end(() => void to.end()))
  from.on("error", () => end(() => void to.destroy()))
  from.on("close", () => end(() => void to.destroySoon()))
}

const drained = (socket: Socket): Promise<void> =>
  new Promise((done) => {
    const finish = (): void => {
      socket.off("drain", finish).off("close", finish)
      done()
    }
    socket.on("drain", finish).on("close", finish)
  })
