/** The error of a server that does not answer, or does not let us in. */
import { KeyfoldError } from "../errors.ts"

export const unreachable = (name: string, reason: string): KeyfoldError =>
  new KeyfoldError("unreachable", `${name} cannot be reached (${reason}). Start it, or mend the address`)
