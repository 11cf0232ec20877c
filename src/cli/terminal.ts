/**
 * The edge of the command: the only file here that touches clocks, timers, signals and the standard streams. A line on stderr may be
 * live: it is redrawn in place, and what is said goes above it.
 */
import { isWorker, stopListeningEarly } from "./early-signals.ts"
import { fitted, painted, type Span } from "./painting.ts"

export interface Terminal {
  /** Whether stderr is a screen, on which a line can be redrawn. */
  readonly isLive: boolean
  nowMs(): number
  /** A line on stderr. */
  say(line: string): void
  /** Redraws the live line; only on a screen. */
  draw(spans: readonly Span[]): void
  /** Removes the live line. */
  clear(): void
  /** Runs something again and again; answers how to end that. */
  every(ms: number, run: () => void): () => void
}

const ansiErase = "\r\u001b[K"
const widthDefault = 80

export class StderrTerminal implements Terminal {
  readonly isLive = process.stderr.isTTY === true && process.env["TERM"] !== "dumb"
  readonly #isColoured = this.isLive && (process.env["NO_COLOR"] ?? "") === ""
  #drawn = ""

  nowMs(): number {
    return performance.now()
  }

  say(line: string): void {
    process.stderr.write(this.#drawn === "" ? `${line}\n` : `${ansiErase}${line}\n${this.#drawn}`)
  }

  draw(spans: readonly Span[]): void {
    if (!this.isLive) return
    // One column less than there is: a full line would wrap on some terminals.
    const width = (process.stderr.columns || widthDefault) - 1
    this.#drawn = painted(fitted(spans, width), this.#isColoured)
    process.stderr.write(`${ansiErase}${this.#drawn}`)
  }

  clear(): void {
    if (this.#drawn !== "") process.stderr.write(ansiErase)
    this.#drawn = ""
  }

  every(ms: number, run: () => void): () => void {
    const timer = setInterval(run, ms)
    timer.unref()
    return () => clearInterval(timer)
  }
}

/** The signals that ask the command to end. */
export type EndSignal = "SIGINT" | "SIGTERM"

/** What a process exits with when a signal ends it. */
export const signalExitCode = { SIGINT: 130, SIGTERM: 143 } as const satisfies Record<EndSignal, number>

/** Calls `first` for the first signal; the second one ends the process at once. Answers how to stop listening. */
export const onEndSignal = (first: (signal: EndSignal) => void): (() => void) =>
  onEverySignal((signal, count) => {
    if (count > 1) process.exit(signalExitCode[signal])
    first(signal)
  })

/** Calls `heard` for every signal, with how many there were. Answers how to stop listening. */
export const onEverySignal = (heard: (signal: EndSignal, count: number) => void): (() => void) => {
  let count = 0
  const listener = (signal: EndSignal): void => {
    count += 1
    heard(signal, count)
  }
  process.on("SIGINT", listener)
  process.on("SIGTERM", listener)
  // Now, not before: with its last listener Node forgets a signal that has come and waits for its turn.
  stopListeningEarly()
  return () => {
    process.off("SIGINT", listener)
    process.off("SIGTERM", listener)
  }
}

/** Calls `orphaned` when the supervisor of this worker is gone; never in a process that has none. Answers how to stop listening. */
export const onOrphaned = (orphaned: () => void): (() => void) => {
  if (!isWorker) return () => undefined
  if (process.connected) process.once("disconnect", orphaned)
  else orphaned()
  return () => void process.off("disconnect", orphaned)
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** Lets timers, signals and other input have their turn. */
export const nextRound = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Writes to stdout; completes when it is written. */
export const print = (text: string): Promise<void> => new Promise((resolve) => process.stdout.write(text, () => resolve()))

/**
 * A reader of stdout that leaves early (`| head`) has seen what it wanted: that is no failure. Nobody may be there to read stderr, either.
 * Warnings that Node's SQLite and type stripping are young say nothing that a user of the command could act on.
 */
export const guardStreams = (): void => {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0)
    process.stderr.write(`keyfold: stdout cannot be written: ${error.message}\n`)
    process.exit(1)
  })
  process.stderr.on("error", () => undefined)
  const { emitWarning } = process
  process.emitWarning = ((warning: string | Error, ...rest: never[]) => {
    if (!/^(SQLite|Type Stripping) is an experimental feature/.test(String(warning))) emitWarning.call(process, warning, ...rest)
  }) as typeof process.emitWarning
}

/** Ends the process when stderr is written. */
export const leave = (exitCode: number): void => {
  process.stderr.write("", () => process.exit(exitCode))
}
