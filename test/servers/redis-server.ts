/** A redis-server on a free loopback port and a directory of its own; it keeps an append-only file unless told otherwise. */
import { redisAnswer } from "./redis-answer.ts"
import { type Server, serverThatRuns, startServer } from "./server.ts"
import { addressOf, binaryOf, running } from "./versions.ts"

export interface RedisOptions {
  /** "7.0.15" or a beginning of it; the newest at hand by default. */
  readonly version?: string
  readonly port?: number
  readonly appendonly?: boolean
  readonly appendfsync?: "always" | "everysec" | "no"
  /** More arguments, as on redis-server's command line: ["--maxmemory-policy", "allkeys-lru"]. */
  readonly args?: readonly string[]
}

export const startRedis = async (options: RedisOptions = {}): Promise<Server> => {
  const address = addressOf("redis")
  if (options.version === running && address !== undefined) return serverThatRuns("redis", address)
  const binary = binaryOf("redis", options.version)
  const fixed = ["--bind", "127.0.0.1", "--save", "", "--daemonize", "no", "--appendonly", options.appendonly === false ? "no" : "yes"]
  const settings = [...fixed, "--appendfsync", options.appendfsync ?? "everysec", ...(options.args ?? [])]
  return startServer(
    "redis",
    (port, directory) => ({
      name: `redis-server ${binary.version} on port ${port}`,
      binary,
      port,
      directory,
      url: `redis://127.0.0.1:${port}`,
      args: ["--port", String(port), "--dir", directory, ...settings],
      answers: async (pid) => isOurs(await redisAnswer(port, "INFO"), pid)
    }),
    options.port
  )
}

/** A refusal is an answer too: with a password we are not told more. While it reads its files it answers, but does not serve. */
const isOurs = (answer: string, pid: number): boolean =>
  /^-(NOAUTH|NOPERM)/.test(answer) || (answer.includes(`process_id:${pid}\r\n`) && answer.includes("\r\nloading:0\r\n"))
