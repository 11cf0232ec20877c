import * as Effect from "effect/Effect"
import { makeRuntime, type Runtime } from "../ports.ts"
import { makeMemoryStore } from "../storage/memory-store.ts"
import { storedPorts } from "./stored-ports.ts"

/** A runtime of its own in this process's memory, for tests: everything works as elsewhere, and is gone with the process. */
export function memory(): Runtime {
  const ports = storedPorts(makeMemoryStore(), { foreignStreams: true })
  return makeRuntime("memory", { query: () => Effect.succeed(ports), client: Effect.succeed(ports) })
}
