// Goal: copies in slabs are as good as copies with memory of their own, and none keeps much memory besides its own.
// Method: more copies than a slab holds, of all sizes, against plain copies; then each is overwritten in turn.
import { expect, test } from "vitest"
import { ByteSlab } from "../../src/model/byte-slab.ts"

const slabBytes = 256
const sizes = [0, 1, 63, 64, 65, 200, 256, 257, 1_000, ...Array.from({ length: 100 }, (_, index) => index % 70)]
const filled = (size: number, value: number): Uint8Array => new Uint8Array(size).fill(value)

test("copies have their own bytes: neither the original nor another copy shows in them", () => {
  const slab = new ByteSlab(slabBytes)
  const originals = sizes.map(filled)
  const copies = originals.map((original) => slab.copy(original))
  for (const original of originals) original.fill(255)
  for (const [index, copy] of copies.entries()) {
    expect(copy).toEqual(filled(sizes[index] as number, index))
    copy.fill(254)
  }
  for (const [index, copy] of copies.entries()) expect(copy).toEqual(filled(sizes[index] as number, 254))
})

test("a copy keeps its slab alive and no more; a large one has memory of its own", () => {
  const slab = new ByteSlab(slabBytes)
  for (const size of sizes) {
    const { buffer } = slab.copy(filled(size, 1))
    expect(buffer.byteLength).toBe(size > slabBytes / 4 ? size : size === 0 && buffer.byteLength === 0 ? 0 : slabBytes)
  }
})
