/** All chance of a simulation, from one seed: sfc32 (Doty-Humphrey, PractRand), which passes the usual test batteries. */

export class Dice {
  #a: number
  #b: number
  #c: number
  #count: number

  /** `seed`: a whole number; `stream` tells dice of one seed apart, so that a new use of one does not change the others. */
  constructor(seed: number, stream = 0) {
    this.#a = seed | 0
    this.#b = Math.floor(seed / 2 ** 32) | 0
    this.#c = stream | 0
    this.#count = 1
    for (let round = 0; round < 15; round++) this.#next()
  }

  /** From 0 to 1, without 1. */
  fraction(): number {
    return this.#next() / 2 ** 32
  }

  /** A whole number from `least` to `most`, both included. */
  whole(least: number, most: number): number {
    return least + Math.floor(this.fraction() * (most - least + 1))
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.fraction() < probability
  }

  pick<T>(from: readonly T[]): T {
    return from[this.whole(0, from.length - 1)] as T
  }

  #next(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#count) | 0
    this.#count = (this.#count + 1) | 0
    this.#a = this.#b ^ (this.#b >>> 9)
    this.#b = (this.#c + (this.#c << 3)) | 0
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0
    return sum >>> 0
  }
}
