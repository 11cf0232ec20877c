/**
 * Several byte strings as one input: u16 length, little-endian · bytes, again and again; the length 65535 begins another group. Whatever the
 * bytes are they have parts, so that a mutation of the whole is one of some part, or of where parts begin.
 */

const nextGroup = 0xffff

export const joined = (groups: readonly (readonly (string | Uint8Array)[])[]): Buffer =>
  Buffer.concat(groups.flatMap((group, index) => [...(index === 0 ? [] : [lengthOf(nextGroup)]), ...group.flatMap(partOf)]))

const partOf = (part: string | Uint8Array): readonly Buffer[] => {
  const bytes = Buffer.from(part as Uint8Array)
  if (bytes.length >= nextGroup) throw new RangeError("a part is shorter than 64 KiB")
  return [lengthOf(bytes.length), bytes]
}

const lengthOf = (length: number): Buffer => {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16LE(length)
  return bytes
}

export const groupsIn = (input: Buffer): readonly (readonly Buffer[])[] => {
  const groups: Buffer[][] = [[]]
  for (let at = 0; at + 2 <= input.length; ) {
    const length = input.readUInt16LE(at)
    at += 2
    if (length === nextGroup) groups.push([])
    else {
      groups.at(-1)?.push(input.subarray(at, at + length))
      at += length
    }
  }
  return groups
}
