/**
 * What the client leaves undone with its sockets; the only place that reaches for parts of it which are not its surface. test/live/
 * nats-connection.test.ts fails when a newer client has them otherwise, or no longer needs this.
 */
import type { Socket } from "node:net"
import type { NatsConnection } from "@nats-io/transport-node"

interface ClientParts {
  readonly protocol?: { readonly transport?: { readonly socket?: Socket; discard(): void } }
}

const transportOf = (connection: NatsConnection) => (connection as unknown as ClientParts).protocol?.transport

/**
 * Before it lets go of a connection that answers no pings the client waits until everything is sent. On a dead connection under load that
 * is for ever, and it never reconnects. Ends when the connection is closed; takes its news meanwhile, which would pile up, and tells of those
 * that say whether it is away.
 */
export const dropWhenStale = async (connection: NatsConnection, told: (isAway: boolean) => void): Promise<void> => {
  for await (const { type } of connection.status()) {
    if (type === "disconnect" || type === "reconnect") told(type === "disconnect")
    if (type !== "staleConnection") continue
    const socket = transportOf(connection)?.socket
    if (socket !== undefined && socket.writableLength > 0) socket.destroy()
  }
}

/**
 * Closes at once, with the socket of a connection that is just being made: the client forgets it, and a silent server never ends it. The
 * client also takes its hands off a socket before that has said its last word: "write after end", when the server hung up a moment ago, which
 * would end the process.
 */
export const abandon = async (connection: NatsConnection): Promise<void> => {
  const socket = transportOf(connection)?.socket
  const closed = connection.close()
  socket?.on("error", ignore)
  await closed
  socket?.on("error", ignore)
  transportOf(connection)?.discard()
}

const ignore = (): void => {}
