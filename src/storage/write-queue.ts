/**
 * Group commit: everything that is queued when the event loop comes round goes into one transaction, so sixteen partitions share one
 * fsync. SQLite is synchronous here, so nothing else of this process runs between BEGIN and COMMIT.
 *
 * Each piece of work has a savepoint of its own (S2). That costs a twentieth of an append and spares every caller from being careful.
 */
import * as Effect from "effect/Effect"
import type { KeyfoldError } from "../errors.ts"
import type { Connection } from "./connection.ts"
import { failureOf, isSqliteError } from "./storage-errors.ts"

/** What a group holds at most; the rest commits in the next turn of the event loop. */
const groupWritesMax = 1_024

interface Queued<A> {
  readonly work: () => A
  readonly resume: (outcome: Effect.Effect<A, KeyfoldError>) => void
}

export class WriteQueue {
  readonly #connection: Connection
  readonly #file: string
  readonly #committed: () => void
  #queue: Queued<unknown>[] = []
  #next: NodeJS.Immediate | undefined

  /** `committed` is called after every commit, before its writers go on. */
  constructor(connection: Connection, file: string, committed: () => void) {
    this.#connection = connection
    this.#file = file
    this.#committed = committed
  }

  write<A>(work: () => A): Effect.Effect<A, KeyfoldError> {
    return Effect.callback<A, KeyfoldError>((resume) => {
      const queued = { work, resume } as Queued<unknown>
      this.#queue.push(queued)
      this.#next ??= setImmediate(() => this.#flush())
      return Effect.sync(() => {
        this.#queue = this.#queue.filter((other) => other !== queued) // S4
      })
    })
  }

  /** Commits what is still queued: for the end. */
  drain(): void {
    while (this.#queue.length > 0) this.#flush()
  }

  #flush(): void {
    clearImmediate(this.#next)
    const group = this.#queue.slice(0, groupWritesMax)
    this.#queue = this.#queue.slice(groupWritesMax)
    this.#next = this.#queue.length > 0 ? setImmediate(() => this.#flush()) : undefined
    if (group.length === 0) return
    const outcomes = this.#commit(group)
    this.#committed()
    // A writer goes on inside of resume, and may well queue its next write: it lands in the next group.
    for (const [index, queued] of group.entries()) queued.resume(outcomes[index] as Effect.Effect<unknown, KeyfoldError>)
  }

  #commit(group: readonly Queued<unknown>[]): readonly Effect.Effect<unknown, KeyfoldError>[] {
    try {
      this.#connection.prepare("BEGIN IMMEDIATE").run()
      const outcomes = group.map((queued) => this.#attempt(queued.work))
      this.#connection.prepare("COMMIT").run()
      return outcomes
    } catch (thrown) {
      // SQLite has rolled back by itself after some errors and not after others.
      this.#rollBack()
      const failure = failureOf(thrown, this.#file)
      return group.map(() => failure)
    }
  }

  /** A medium that has just failed may fail here too; the next BEGIN says so then, and no writer waits for ever. */
  #rollBack(): void {
    try {
      if (this.#connection.inTransaction) this.#connection.prepare("ROLLBACK").run()
    } catch (thrown) {
      if (!isSqliteError(thrown)) throw thrown
    }
  }

  #attempt(work: () => unknown): Effect.Effect<unknown, KeyfoldError> {
    this.#connection.prepare("SAVEPOINT work").run()
    try {
      const result = work()
      this.#connection.prepare("RELEASE work").run()
      return Effect.succeed(result)
    } catch (thrown) {
      if (isSqliteError(thrown)) throw thrown
      this.#connection.prepare("ROLLBACK TO work").run()
      this.#connection.prepare("RELEASE work").run()
      return failureOf(thrown, this.#file)
    }
  }
}
