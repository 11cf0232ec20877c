/**
 * Copies of small byte arrays, side by side in larger ones. An array with memory of its own is an allocation outside of V8's heap: about
 * 800 ns for 100 bytes, and twice the memory of a window on a slab, which takes 50 ns. The price is that a slab stays as long as any of its
 * copies: it must be small where these live long.
 */
export class ByteSlab {
  readonly #slabBytes: number
  #slab = new ArrayBuffer(0)
  #used = 0

  constructor(slabBytes: number) {
    this.#slabBytes = slabBytes
  }

  /** Nobody else's, and a window: its `buffer` has others' bytes too. Hot path. */
  copy(bytes: Uint8Array): Uint8Array {
    const { byteLength } = bytes
    if (byteLength > this.#slabBytes / 4) return new Uint8Array(bytes)
    if (this.#used + byteLength > this.#slab.byteLength) {
      this.#slab = new ArrayBuffer(this.#slabBytes)
      this.#used = 0
    }
    const copy = new Uint8Array(this.#slab, this.#used, byteLength)
    copy.set(bytes)
    this.#used += byteLength
    return copy
  }
}
