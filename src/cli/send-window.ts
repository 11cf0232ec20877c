/** Bounds what a publish has under way: sends in flight and their bytes. Full, it makes the reader wait; a failed send ends the publish. */

export interface WindowBounds {
  readonly sendsMax: number
  readonly bytesMax: number
}

export const windowBounds: WindowBounds = { sendsMax: 2_048, bytesMax: 16 * 1_048_576 }

export class SendWindow {
  readonly #bounds: WindowBounds
  #sends = 0
  #bytes = 0
  #failure: { readonly thrown: unknown } | undefined
  #wake: (() => void) | undefined

  constructor(bounds: WindowBounds = windowBounds) {
    this.#bounds = bounds
  }

  get isFull(): boolean {
    return this.#sends >= this.#bounds.sendsMax || this.#bytes >= this.#bounds.bytesMax
  }

  add(sending: Promise<void>, bytes: number): void {
    this.#sends += 1
    this.#bytes += bytes
    sending.then(
      () => this.#ended(bytes),
      (thrown: unknown) => {
        this.#failure ??= { thrown }
        this.#ended(bytes)
      }
    )
  }

  /** Completes when there is room for one more. Throws the first failure. */
  room(): Promise<void> {
    return this.#until(() => !this.isFull || this.#failure !== undefined)
  }

  /** Completes when nothing is under way. Throws the first failure. */
  settled(): Promise<void> {
    return this.#until(() => this.#sends === 0)
  }

  async #until(holds: () => boolean): Promise<void> {
    while (!holds()) await new Promise<void>((resolve) => (this.#wake = resolve))
    if (this.#failure !== undefined) throw this.#failure.thrown
  }

  #ended(bytes: number): void {
    this.#sends -= 1
    this.#bytes -= bytes
    this.#wake?.()
  }
}
