/** A nats-server with JetStream on a free loopback port and a directory of its own. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { answerOf } from "./answer.ts"
import { type Server, serverThatRuns, startServer } from "./server.ts"
import { addressOf, binaryOf, running } from "./versions.ts"

export interface NatsOptions {
  /** "2.15.1" or a beginning of it; the newest at hand by default. */
  readonly version?: string
  readonly port?: number
  /** Lines for the server's configuration file. */
  readonly config?: string
  /** Lines for its jetstream block: "sync_interval: always" (2.10 and newer). */
  readonly jetstream?: string
  /** Instead of a directory inside its own: it is not removed. */
  readonly storeDir?: string
  /** Unique among all servers of this machine, so that no other is taken for it. */
  readonly serverName?: string
}

export const startNats = async (options: NatsOptions = {}): Promise<Server> => {
  const address = addressOf("nats")
  if (options.version === running && address !== undefined) return serverThatRuns("nats", address)
  const binary = binaryOf("nats", options.version)
  return startServer(
    "nats",
    (port, directory) => {
      const serverName = options.serverName ?? directory.split("/").slice(-2).join("-")
      const configPath = join(directory, "nats.conf")
      writeFileSync(
        configPath,
        [
          `server_name: ${serverName}`,
          `listen: "127.0.0.1:${port}"`,
          `jetstream { store_dir: ${JSON.stringify(options.storeDir ?? join(directory, "data"))}\n${options.jetstream ?? ""} }`,
          options.config ?? ""
        ].join("\n")
      )
      return {
        name: `nats-server ${binary.version} on port ${port}`,
        binary,
        port,
        directory,
        url: `nats://127.0.0.1:${port}`,
        args: ["-c", configPath],
        // It listens when JetStream has read its files. The name says that it is ours and not another's on this port.
        answers: async () => natsInfo(await answerOf(port, "", (text) => text.includes("\r\n"))).server_name === serverName
      }
    },
    options.port
  )
}

const natsInfo = (text: string): { readonly server_name?: string } => {
  const json = /^INFO (\{.*\})\s*\r\n/.exec(text)?.[1]
  return json === undefined ? {} : JSON.parse(json)
}
