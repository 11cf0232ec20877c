/** The topic hash `fnv1a32`: FNV-1a, 32 bits, over UTF-8 (what NATS' `partition()` mapping computes as well). */
import { type KeyText, keyHashText } from "./key.ts"

/** FNV-1a 32 of a text's UTF-8 bytes, unsigned. */
export const fnv1a32 = (text: string): number => {
  let hash = 0x811c9dc5
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index)
    if (unit >= 0x80) return fnv1a32Bytes(Buffer.from(text, "utf8"))
    hash = Math.imul(hash ^ unit, 0x01000193)
  }
  return hash >>> 0
}

/** Spreads 32 bits over 32 bits, one to one: texts that differ little have FNV hashes that order them alike. */
export const mixed32 = (bits: number): number => {
  let hash = bits
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

/** The partition that a key belongs to. */
export const partitionOf = (text: KeyText, partitions: number): number => (partitions === 1 ? 0 : fnv1a32(keyHashText(text)) % partitions)

const fnv1a32Bytes = (bytes: Uint8Array): number => {
  let hash = 0x811c9dc5
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193)
  return hash >>> 0
}
