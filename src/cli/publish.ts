/** `keyfold publish`: streams lines from a file or stdin into a topic. Never holds more than a window of them. */
import { createReadStream, statSync } from "node:fs"
import { verbatimPublisher } from "../publisher.ts"
import { topicToPublish } from "./catalog.ts"
import { foreignFormat } from "./input-format.ts"
import { LinePublisher } from "./line-publisher.ts"
import { LineSplitter } from "./lines.ts"
import { loadCatalog } from "./module.ts"
import { counted } from "./numerals.ts"
import { painted } from "./painting.ts"
import { runtimeOf } from "./place-runtime.ts"
import { barSpans, type PublishFigures, progressSpans, publishSummary } from "./progress-bar.ts"
import { type ExitCode, misuse } from "./refusal.ts"
import type { PublishRequest } from "./request.ts"
import { type EndSignal, onEndSignal, signalExitCode, type Terminal } from "./terminal.ts"

export const publishLines = async (request: PublishRequest, terminal: Terminal): Promise<ExitCode> => {
  const topic = topicToPublish(await loadCatalog(request.module), request.topic)
  const input = openInput(request.file, terminal)
  const open = await verbatimPublisher(await runtimeOf(request.place), topic)
  const lines = new LinePublisher(open, ({ number, byteCount }) => {
    terminal.say(`keyfold: line ${counted(number)} is left out: a record cannot hold its ${counted(byteCount)} bytes`)
  })
  const pump = new Pump(input, lines, terminal)
  const endProgress = showProgress(pump, terminal)
  const signal = await pump
    .run()
    .finally(endProgress)
    .catch((thrown: unknown) => {
      terminal.say(`failed: ${publishSummary(pump.figures, request.topic)}`)
      throw thrown
    })
  // Refusals were handled line by line; flush would tell them again.
  await open.flush().catch(() => undefined)
  await open[Symbol.asyncDispose]()
  terminal.say(`${signal === undefined ? "" : "interrupted: "}${publishSummary(pump.figures, request.topic)}`)
  if (signal !== undefined) return signalExitCode[signal]
  return lines.leftOut > 0 ? 1 : 0
}

interface Input {
  readonly name: string
  readonly stream: NodeJS.ReadableStream & { destroy(): unknown }
  /** Undefined: a pipe, nobody knows. */
  readonly bytesTotal: number | undefined
}

const chunkBytes = 262_144

const openInput = (file: string | undefined, terminal: Terminal): Input => {
  if (file === undefined) {
    if (process.stdin.isTTY) terminal.say("reading lines of JSON from the keyboard; Ctrl-D ends them")
    return { name: "the input", stream: process.stdin, bytesTotal: undefined }
  }
  const found = statSync(file, { throwIfNoEntry: false })
  if (found === undefined) throw misuse(`there is no file ${file}`, "Name a file with one JSON value a line, or - for stdin.")
  if (found.isDirectory()) throw misuse(`${file} is a directory`, "Name a file with one JSON value a line, or - for stdin.")
  return { name: file, stream: createReadStream(file, { highWaterMark: chunkBytes }), bytesTotal: found.isFile() ? found.size : undefined }
}

/** Moves lines from the input to the topic until the input, a signal or a failure ends it. */
class Pump {
  readonly #input: Input
  readonly #lines: LinePublisher
  readonly #terminal: Terminal
  readonly #startedMs: number
  #bytesRead = 0
  #signal: EndSignal | undefined

  constructor(input: Input, lines: LinePublisher, terminal: Terminal) {
    this.#input = input
    this.#lines = lines
    this.#terminal = terminal
    this.#startedMs = terminal.nowMs()
  }

  /** Completes when everything that was read is stored; answers the signal that ended the reading early. */
  async run(): Promise<EndSignal | undefined> {
    const forget = onEndSignal((signal) => {
      this.#signal = signal
      this.#input.stream.destroy()
    })
    try {
      await this.#read()
      await this.#lines.settled()
      return this.#signal
    } finally {
      forget()
    }
  }

  get figures(): PublishFigures {
    const { stored, verbatim, leftOut } = this.#lines
    const elapsedMs = this.#terminal.nowMs() - this.#startedMs
    return { lines: stored, verbatim, leftOut, bytesRead: this.#bytesRead, bytesTotal: this.#input.bytesTotal, elapsedMs }
  }

  async #read(): Promise<void> {
    const splitter = new LineSplitter()
    try {
      for await (const chunk of this.#input.stream as AsyncIterable<Uint8Array>) {
        if (this.#bytesRead === 0) this.#checkFormat(chunk)
        this.#bytesRead += chunk.length
        for (const line of splitter.push(chunk)) await this.#lines.take(line)
      }
    } catch (thrown) {
      if (this.#signal === undefined) throw thrown
    }
    // After a signal the last line may be cut short: it is not published.
    if (this.#signal === undefined) for (const line of splitter.end()) await this.#lines.take(line)
  }

  #checkFormat(chunk: Uint8Array): void {
    const format = foreignFormat(chunk)
    if (format !== undefined) throw misuse(`${this.#input.name} is ${format.what}, not lines of JSON`, format.cure)
  }
}

const drawMsEvery = 150
const sayMsEvery = 10_000

const showProgress = (pump: Pump, terminal: Terminal): (() => void) => {
  const end = terminal.isLive
    ? terminal.every(drawMsEvery, () => terminal.draw([...barSpans(pump.figures), ...progressSpans(pump.figures)]))
    : terminal.every(sayMsEvery, () => terminal.say(painted(progressSpans(pump.figures), false)))
  return () => {
    end()
    terminal.clear()
  }
}
