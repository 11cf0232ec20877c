import { isUint8Array } from "node:util/types"
import type { Codec } from "keyfold"

/**
 * Bytes as they are. Both directions copy: what was encoded must not change when the caller reuses its buffer, and what was decoded must
 * neither let the caller write into the journal's bytes nor keep the network buffer alive that the record arrived in.
 */
export const bytes = (): Codec<Uint8Array> => ({
  contentType: "application/octet-stream",
  fingerprint: "bytes/1",
  encode: copyOf,
  decode: copyOf
})

const copyOf = (value: Uint8Array): Uint8Array => {
  // Without the check, `new Uint8Array(5)` would be five zeros. `instanceof` would refuse the arrays of other realms (vm, jest).
  if (!isUint8Array(value)) throw new TypeError(`bytes must be a Uint8Array, got ${value === null ? "null" : typeof value}`)
  return new Uint8Array(value)
}
