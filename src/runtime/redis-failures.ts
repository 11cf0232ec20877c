/** What a Redis said, or that it said nothing, as an error of ours. */
import { InvariantError, KeyfoldError } from "../errors.ts"
import { unreachable } from "./server-unreachable.ts"

/** It passes by itself: a restart, a fail-over, a script that runs too long, a replica where a primary was. */
const passing = /^(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY|NOREPLICAS|MOVED|ASK|UNBLOCKED|NOQUORUM|FAILOVER)\b/
const full = /^(OOM|MISCONF)\b/
const refused = /^(NOAUTH|WRONGPASS|NOPERM|DENIED|ERR AUTH|ERR Client sent AUTH)\b/

/** `said`: a reply that is an error; otherwise what happened to the connection. */
export const redisFailure = (name: string, thrown: Error, command: string): KeyfoldError => {
  const message = withoutArguments(thrown.message)
  if (!isReply(thrown)) return unreachable(name, message)
  if (passing.test(message)) return unreachable(name, message)
  if (full.test(message)) return storageFull(name, message)
  if (refused.test(message)) return unreachable(name, `it refuses us: ${message}. Check user, password and rights`)
  if (/^WRONGTYPE\b/.test(message)) {
    return new KeyfoldError(
      "directory-damaged",
      `a key of keyfold's in ${name} is of another type (${command}): something else has written to it. Restore a backup, or begin anew under another query name`
    )
  }
  throw new InvariantError(`K4: ${name} answered ${command} with ${message}`)
}

/** Redis repeats the arguments of a command that it does not know: a password, where AUTH was renamed, or somebody's data. */
export const withoutArguments = (message: string): string => message.replace(/,? with args beginning with.*$/s, "")

/** NOSCRIPT: the server does not know the script yet, or was restarted since. */
export const isUnknownScript = (thrown: Error): boolean => isReply(thrown) && thrown.message.startsWith("NOSCRIPT")

const isReply = (thrown: Error): boolean => thrown.name === "ReplyError"

const storageFull = (name: string, message: string): KeyfoldError =>
  new KeyfoldError(
    "storage-full",
    message.startsWith("OOM")
      ? `${name} is full (maxmemory): nothing was written. Give it more memory, or remove what is not needed`
      : `${name} takes no writes, because it cannot save them (${message}): nothing was written. Make room on its disk`
  )
