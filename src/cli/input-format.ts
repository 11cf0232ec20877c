/** Formats that a whole file of dead letters would come from, told by their first bytes. Pure. */

export interface ForeignFormat {
  readonly what: string
  readonly cure: string
}

/** Undefined: lines as far as anybody can tell. */
export const foreignFormat = (start: Uint8Array): ForeignFormat | undefined => {
  const [first, second, third, fourth] = start
  if (first === 0x1f && second === 0x8b && third === 0x08) return compressed("gzip", "zcat")
  if (first === 0x28 && second === 0xb5 && third === 0x2f && fourth === 0xfd) return compressed("zstd", "zstdcat")
  // A byte order mark and an ASCII character; a broken line that begins with FF FE goes through.
  const isUtf16 = (first === 0xff && second === 0xfe && fourth === 0) || (first === 0xfe && second === 0xff && third === 0)
  return isUtf16 ? { what: "UTF-16", cure: "Convert it: iconv -f UTF-16 -t UTF-8 FILE | keyfold publish MODULE TOPIC" } : undefined
}

const compressed = (format: string, command: string): ForeignFormat => ({
  what: `compressed (${format})`,
  cure: `Unpack it on the way: ${command} FILE | keyfold publish MODULE TOPIC`
})
