/** A value as one line of JSON. What JSON has no form for gets one: bytes as base64, big integers as text, maps and sets as arrays. Pure. */

/** Throws on a value with a cycle. */
export const valueText = (value: unknown): string => JSON.stringify(value, printable) ?? "null"

/** JSON.stringify has called `toJSON` already, and a Buffer's is an array of numbers: hence the look at what the holder has. */
function printable(this: unknown, name: string, value: unknown): unknown {
  if (typeof value === "bigint") return value.toString()
  if (typeof value !== "object" || value === null) return value
  const held = (this as Readonly<Record<string, unknown>>)[name]
  if (held instanceof Uint8Array) return Buffer.from(held.buffer, held.byteOffset, held.byteLength).toString("base64")
  return value instanceof Map || value instanceof Set ? [...value] : value
}
