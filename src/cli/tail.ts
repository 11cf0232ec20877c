/** `keyfold tail`: prints a topic as lines of JSON, no faster than stdout takes them. A record that cannot be decoded stops nothing. */
import { type Topic, topic } from "../index.ts"
import { type DeadLetter, encodeDeadLetter } from "../model/dead-letter.ts"
import { payloadBytesMax } from "../options.ts"
import { type RawRecord, readRaw } from "../read.ts"
import { type Catalog, topicOf, topicToRead } from "./catalog.ts"
import { isKeyfoldError } from "./failure.ts"
import { loadCatalog } from "./module.ts"
import { plural } from "./numerals.ts"
import { LineOutput } from "./output.ts"
import { runtimeOf } from "./place-runtime.ts"
import { type ExitCode, Refusal } from "./refusal.ts"
import type { TailRequest } from "./request.ts"
import { type EndSignal, onEndSignal, signalExitCode, type Terminal } from "./terminal.ts"
import { valueText } from "./value-text.ts"

export const tailTopic = async (request: TailRequest, terminal: Terminal): Promise<ExitCode> => {
  const chosen = chosenTopic(await loadCatalog(request.module), request.topic)
  const records = readRaw(await runtimeOf(request.place), chosen, { follow: request.follow })
  const printer = new Printer(request.meta, terminal)
  let forget = (): void => undefined
  const interrupted = new Promise<EndSignal>((resolve) => (forget = onEndSignal(resolve)))
  // A quiet topic is waited for without an end, so a signal does not wait for the reader: the process ends with it.
  const signal = await Promise.race([printAll(records, printer), interrupted]).finally(forget)
  await printer.end()
  if (signal !== undefined && !request.follow) return signalExitCode[signal]
  return printer.undecodable > 0 ? 1 : 0
}

const chosenTopic = (catalog: Catalog, name: string): Topic<unknown> => {
  const chosen = topicToRead(catalog, name)
  return chosen === "dead-letters" ? deadLetters(name) : topicOf(chosen)
}

const deadLetters = (name: string): Topic<unknown> =>
  topic<DeadLetter, string>(name, {
    codec: {
      contentType: "application/json",
      fingerprint: "json/1",
      encode: (letter) => encodeDeadLetter(letter, { brief: false, bytesMax: payloadBytesMax }),
      decode: (bytes) => JSON.parse(Buffer.from(bytes).toString("utf8")) as DeadLetter
    },
    key: (letter) => (letter.key ?? null) as string
  }) as Topic<unknown>

const printAll = async (records: AsyncIterable<RawRecord<unknown, unknown>>, printer: Printer): Promise<undefined> => {
  try {
    for await (const record of records) {
      const full = printer.print(record)
      if (full !== undefined) await full
    }
  } catch (thrown) {
    // The one argument that can be wrong here is a topic that nobody has created yet.
    if (isKeyfoldError(thrown) && thrown.code === "illegal-argument") {
      throw new Refusal(
        1,
        thrown.message,
        "Run the job or publish first; --follow does not wait for the topic, --data, or --nats and --redis, look elsewhere."
      )
    }
    throw thrown
  }
}

const namedMax = 20

class Printer {
  readonly #withMeta: boolean
  readonly #terminal: Terminal
  readonly #output = new LineOutput(process.stdout)
  undecodable = 0

  constructor(withMeta: boolean, terminal: Terminal) {
    this.#withMeta = withMeta
    this.#terminal = terminal
  }

  /** Answers a promise when the reader of stdout must be waited for. */
  print(record: RawRecord<unknown, unknown>): Promise<void> | undefined {
    try {
      return this.#output.line(this.#lineOf(record))
    } catch (thrown) {
      this.#report(record, thrown)
      return undefined
    }
  }

  async end(): Promise<void> {
    await this.#output.flush()
    if (this.undecodable > namedMax) this.#terminal.say(`keyfold: ${plural(this.undecodable, "record")} could not be decoded`)
  }

  #lineOf({ decode, info }: RawRecord<unknown, unknown>): string {
    const { value, key } = decode()
    if (!this.#withMeta) return valueText(value)
    const { partition, position, publishedAt, headers } = info
    return valueText({ key, partition, position, publishedAt, headers: Object.fromEntries(headers), value })
  }

  #report({ info }: RawRecord<unknown, unknown>, thrown: unknown): void {
    this.undecodable += 1
    if (this.undecodable > namedMax) return
    const reason = isKeyfoldError(thrown) ? thrown.message : `position ${info.position} of partition ${info.partition}: ${String(thrown)}`
    this.#terminal.say(`keyfold: ${reason}`)
    if (this.undecodable === namedMax) this.#terminal.say("keyfold: further records that cannot be decoded are counted only")
  }
}
