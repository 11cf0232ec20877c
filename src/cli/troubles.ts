/** Says what keeps a job waiting when it lasts, once, and once that it goes on. Pure. */
import type { Query } from "../index.ts"

/** What start.ts's handles know for whoever shows it. */
interface Troubled {
  readonly trouble: { readonly code: string; readonly message: string } | undefined
}

export class Troubles {
  /** Looks in a row that have found a query in trouble; those in this map at `looksToTell` have been told. */
  readonly #looks = new Map<Query, number>()
  readonly #say: (line: string) => void

  constructor(say: (line: string) => void) {
    this.#say = say
  }

  /** To be called every second or so. What passes between two looks, a partition on its way from one worker to another, is not worth a line. */
  look(queries: readonly (Query & Partial<Troubled>)[]): void {
    for (const query of queries) {
      const looks = this.#looks.get(query) ?? 0
      if (query.trouble === undefined) {
        if (looks >= looksToTell) this.#say(`${query.name} goes on`)
        this.#looks.delete(query)
        continue
      }
      if (looks + 1 === looksToTell) this.#say(`${query.name} waits: ${query.trouble.message}`)
      this.#looks.set(query, looks + 1)
    }
  }
}

const looksToTell = 5
