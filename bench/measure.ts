/** Measures pairs in one run: contestants take turns, so that a machine that slows down slows both. Medians are reported, and their ratio. */

export interface Contestant {
  readonly name: string
  /** Does the work once; answers how many operations it was. */
  readonly run: () => number | Promise<number>
}

export interface Measured {
  readonly name: string
  /** Microseconds per operation: median, least and greatest of the rounds. */
  readonly us: number
  readonly least: number
  readonly greatest: number
}

export const measure = async (contestants: readonly Contestant[], rounds = 7): Promise<readonly Measured[]> => {
  const samples = contestants.map((): number[] => [])
  for (const contestant of contestants) await contestant.run()
  for (let round = 0; round < rounds; round++) {
    for (const [index, contestant] of contestants.entries()) {
      const began = performance.now()
      const operations = await contestant.run()
      samples[index]?.push(((performance.now() - began) * 1_000) / operations)
    }
  }
  return contestants.map(({ name }, index) => {
    const sorted = (samples[index] as number[]).toSorted((a, b) => a - b)
    return { name, us: sorted[sorted.length >> 1] as number, least: sorted[0] as number, greatest: sorted.at(-1) as number }
  })
}

export const row = (cells: readonly (string | number)[], widths: readonly number[]): string =>
  cells
    .map((cell, index) => (index === 0 ? String(cell).padEnd(widths[index] ?? 12) : String(cell).padStart(widths[index] ?? 12)))
    .join(" ")

export const fixed = (value: number, digits = 2): string => value.toFixed(digits)
