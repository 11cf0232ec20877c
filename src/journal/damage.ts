/** Bytes of the journal that are not what they should be, as an error that says whose they are and what to do. */
import { KeyfoldError } from "../errors.ts"

/** What is wrong with them; whoever knows what they belong to says so. */
export class Damage extends Error {}

/** Bytes that a newer keyfold has written. */
export class Newer extends Error {}

/** Runs what reads them. Whatever else is thrown is passed on. */
export const reading = <A>(what: string, read: () => A): A => {
  try {
    return read()
  } catch (thrown) {
    if (thrown instanceof Newer) {
      throw new KeyfoldError("format-newer", `${what} has ${thrown.message}: a newer keyfold wrote it. Use that one; nothing was changed`)
    }
    if (!(thrown instanceof Damage)) throw thrown
    throw new KeyfoldError(
      "directory-damaged",
      `${what} is damaged: ${thrown.message}. Something else has written to it, or Redis has lost a part of it; restore a backup of Redis, or begin anew under another query name`
    )
  }
}
