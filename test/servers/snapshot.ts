/** Servers that come back having lost what they acknowledged: a copy of their files, taken earlier, is put in the place of their files. */
import { cpSync, readdirSync, rmSync } from "node:fs"
import { join } from "node:path"
import { serverDirectory } from "./reaper.ts"
import type { Server } from "./server.ts"

/** A copy of what it has on disk now, as a power cut would leave it; it runs on. */
export const snapshotData = (server: Server): string => {
  const copy = serverDirectory("snapshot")
  if (server.isRunning) server.pause() // no file changes while it is copied
  cpSync(server.directory, copy, { recursive: true })
  server.resume()
  return copy
}

/** Kills it, puts the copy back and starts it. The copy can be put back again. */
export const restoreData = async (server: Server, snapshot: string): Promise<void> => {
  await server.kill()
  for (const name of readdirSync(server.directory)) if (name !== log) rmSync(join(server.directory, name), { recursive: true })
  for (const name of readdirSync(snapshot))
    if (name !== log) cpSync(join(snapshot, name), join(server.directory, name), { recursive: true })
  await server.start()
}

const log = "log" // it goes on, whatever happens to the data
