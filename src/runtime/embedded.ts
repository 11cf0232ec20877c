import * as Effect from "effect/Effect"
import { makeRuntime, type Runtime } from "../ports.ts"
import { type Database, openDatabase } from "../storage/database.ts"
import { lockForQueries } from "../storage/lock.ts"
import { storedPorts } from "./stored-ports.ts"

/**
 * The runtime that needs no server: topics, journals and timeouts in one SQLite file in `dir` (default `./.keyfold`; created when it is
 * missing). Every commit is on the disk before its outputs are visible, so a crash or a power failure loses nothing that was confirmed.
 *
 * The same directory is one store, for any number of jobs of one process. A second process that runs queries on it is refused with
 * `directory-in-use`; publishing and reading work beside them. Used, it fails with `unreachable` (a path that cannot be written),
 * `directory-damaged`, `format-newer` or `storage-full`; docs/errors.md has the cures.
 */
export function embedded(dir = "./.keyfold"): Runtime {
  const open = Effect.suspend(() => openDatabase(dir))
  const portsOf = (database: Database) => storedPorts(database, { foreignStreams: false })
  return makeRuntime(`embedded(${dir})`, {
    query: () => Effect.map(Effect.tap(open, lockForQueries), portsOf),
    client: Effect.map(open, portsOf)
  })
}
