/** The servers of docker-compose.yml, under a project name of the tests: other volumes than those of whoever tries the examples. */
import { execFile } from "node:child_process"
import { resolve } from "node:path"
import { promisify } from "node:util"
import type { ServerKind } from "./versions.ts"

const repository = resolve(import.meta.dirname, "../..")
const addresses: Readonly<Record<ServerKind, string>> = { nats: "nats://127.0.0.1:4222", redis: "redis://127.0.0.1:6379" }
const startMsMax = 300_000 // images are pulled the first time

let isStarted = false

/** Its address, or undefined when docker does not start it; then `say` was told why. */
export const startComposed = async (kind: ServerKind, say: (line: string) => void): Promise<string | undefined> => {
  try {
    await compose("up", "--wait", kind)
    isStarted = true
    return addresses[kind]
  } catch (failure) {
    const [command, said] = (failure as Error).message.trim().split("\n") // what failed, and then what it said
    say(`not available: ${kind}-server by docker compose: ${said ?? command}`)
    return undefined
  }
}

/** Stops what was started, and removes what it stored. */
export const stopComposed = async (): Promise<void> => {
  if (isStarted) await compose("down", "--volumes")
}

const compose = (...args: readonly string[]): Promise<unknown> =>
  promisify(execFile)("docker", ["compose", "--project-name", "keyfold-tests", ...args], { cwd: repository, timeout: startMsMax })
