#!/usr/bin/env node
/**
 * The entry of the command `keyfold`. Says so when Node is too old, before anything is loaded that an old Node cannot load. Leaves by
 * `process.exit`: what a job's module has open (a connection of its own) must not keep a command alive that is done.
 */
import { listenEarly } from "./early-signals.ts"
import { isNodeTooOld, nodeOldest } from "./node-version.ts"

if (isNodeTooOld(process.versions.node)) {
  process.stderr.write(`keyfold: Node ${process.versions.node} is too old: keyfold needs Node ${nodeOldest} or newer\n`)
  process.exit(1)
}
listenEarly()
const { guardStreams, leave } = await import("./terminal.ts")
guardStreams()
const { command } = await import("./command.ts")
leave(await command(process.argv.slice(2), process.env))
