/** Vitest's: once per run, before any worker. Test files start their own servers; that takes tens of milliseconds. */
import { stopComposed } from "./composed.ts"
import { lineOf, provision } from "./provision.ts"

export const setup = async (): Promise<void> => {
  process.stdout.write(`${lineOf(await provision())}\n`)
}

export const teardown = stopComposed
