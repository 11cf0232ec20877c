/**
 * The keys of one partition that are in memory. Everything else about a key is in the journal; a resident is only a copy, so that a
 * busy key costs no read. Owns who stays and who leaves; knows nothing of journals.
 */
import type { KeyText } from "../model/key.ts"
import { Resident, type StateImage } from "../model/resident.ts"

/** What a resident weighs besides its bytes: the object, its key, its place in the map. Measured in bench/. */
export const residentOverheadBytes = 160

export class Residents {
  readonly #byKey = new Map<KeyText, Resident>()
  readonly #countMax: number
  readonly #bytesMax: number
  #bytes = 0

  constructor(bounds: { readonly countMax: number; readonly bytesMax: number }) {
    this.#countMax = bounds.countMax
    this.#bytesMax = bounds.bytesMax
  }

  get size(): number {
    return this.#byKey.size
  }

  get bytes(): number {
    return this.#bytes
  }

  get(keyText: KeyText): Resident | undefined {
    return this.#byKey.get(keyText)
  }

  /** Lets a key in, with what the journal has of it. */
  admit(keyText: KeyText, bytes: Uint8Array | undefined, timeoutAt: number): Resident {
    const resident = new Resident(keyText, bytes, timeoutAt)
    this.#byKey.set(keyText, resident)
    this.#bytes += weight(resident)
    return resident
  }

  /** Gives a resident its new state; keeps the count of bytes. */
  change(resident: Resident, image: StateImage): void {
    this.#bytes += (image.bytes?.byteLength ?? 0) - (resident.bytes?.byteLength ?? 0)
    resident.apply(image)
  }

  clear(): void {
    this.#byKey.clear()
    this.#bytes = 0
  }

  /**
   * Makes room after a committed turn: first who is not worth keeping (no state, no timeout), then who arrived first. Who was touched in
   * this very turn goes to the end of the line instead (a second chance), so that a turn's work is bounded by the keys that it brought in.
   */
  evict(turn: number, touched: readonly Resident[]): void {
    for (const resident of touched) if (!resident.exists) this.#drop(resident)
    let chances = this.#byKey.size
    for (const resident of this.#byKey.values()) {
      if (this.#byKey.size <= this.#countMax && this.#bytes <= this.#bytesMax) return
      if (chances-- > 0 && resident.turn === turn) {
        this.#byKey.delete(resident.keyText)
        this.#byKey.set(resident.keyText, resident)
      } else this.#drop(resident)
    }
  }

  #drop(resident: Resident): void {
    if (this.#byKey.delete(resident.keyText)) this.#bytes -= weight(resident)
  }
}

const weight = (resident: Resident): number =>
  residentOverheadBytes + resident.keyText.length + (resident.bytes === undefined ? 0 : resident.bytes.byteLength)
