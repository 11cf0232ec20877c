// Goal: every line ends somewhere that is counted, no more is under way than the window allows, and a failure of the world ends the publish.
// Method: senders that accept, refuse, fail or wait, in place of a topic; values of every kind for what tail prints.
import { describe, expect, test } from "vitest"
import { LinePublisher, type LineSender } from "../../src/cli/line-publisher.ts"
import { type Line, lineBytesMax } from "../../src/cli/lines.ts"
import { type ByteSink, LineOutput } from "../../src/cli/output.ts"
import { SendWindow } from "../../src/cli/send-window.ts"
import { valueText } from "../../src/cli/value-text.ts"
import { KeyfoldError } from "../../src/index.ts"

const lineOf = (text: string | Uint8Array, number = 1): Line => {
  const bytes = typeof text === "string" ? Buffer.from(text) : text
  return { number, bytes, byteCount: bytes.length }
}

const gate = (): { readonly passed: Promise<void>; readonly open: () => void } => {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { passed: promise, open: resolve }
}

describe("line publisher", () => {
  const sender = (send: (value: unknown) => Promise<void>) => {
    const values: unknown[] = []
    const raw: string[] = []
    const to: LineSender = {
      send: async (value) => {
        await send(value)
        values.push(value)
      },
      sendVerbatim: async (bytes) => void raw.push(Buffer.from(bytes).toString("latin1"))
    }
    return { to, values, raw }
  }

  test("values go as values, what is no JSON or no UTF-8 goes as it is", async () => {
    const { to, values, raw } = sender(async () => undefined)
    const lines = new LinePublisher(to, () => undefined)
    for (const text of ['{"a":1}', "[1,2]", '"x"', "null", "{a:1}", "NaN", "\ufeff1"]) lines.take(lineOf(text))
    lines.take(lineOf(Uint8Array.of(0x22, 0xff, 0x22)))
    await lines.settled()
    expect(values).toEqual([{ a: 1 }, [1, 2], "x", null])
    expect(raw).toEqual(["{a:1}", "NaN", "ï»¿1", '"ÿ"'])
    expect([lines.stored, lines.verbatim, lines.leftOut]).toEqual([8, 4, 0])
  })

  for (const code of ["key-invalid", "encode-failed"] as const) {
    test(`a value that the topic refuses (${code}) goes as it is`, async () => {
      const { to, raw } = sender(() => Promise.reject(new KeyfoldError(code, "no")))
      const lines = new LinePublisher(to, () => undefined)
      lines.take(lineOf(' {"a":1}'))
      await lines.settled()
      expect(raw).toEqual([' {"a":1}'])
      expect([lines.stored, lines.verbatim]).toEqual([1, 1])
    })
  }

  test("a failure of the world is not a bad line", async () => {
    const { to, raw } = sender(() => Promise.reject(new KeyfoldError("storage-full", "full")))
    const lines = new LinePublisher(to, () => undefined)
    lines.take(lineOf("1"))
    await expect(lines.settled()).rejects.toThrow("full")
    expect(raw).toEqual([])
    expect(lines.stored).toBe(0)
  })

  test("a line that no record can hold is told, counted and passed over", async () => {
    const { to, values } = sender(async () => undefined)
    const told: number[] = []
    const lines = new LinePublisher(to, ({ number }) => void told.push(number))
    lines.take({ number: 7, bytes: new Uint8Array(), byteCount: lineBytesMax + 1 })
    lines.take(lineOf("1"))
    await lines.settled()
    expect([told, values, lines.leftOut]).toEqual([[7], [1], 1])
  })
})

describe("send window", () => {
  test("is full by count and by bytes, and has room again when a send ends", async () => {
    const window = new SendWindow({ sendsMax: 2, bytesMax: 100 })
    const [first, second] = [gate(), gate()]
    window.add(first.passed, 1)
    expect(window.isFull).toBe(false)
    window.add(second.passed, 1)
    expect(window.isFull).toBe(true)
    const room = window.room()
    first.open()
    await room
    expect(window.isFull).toBe(false)
    window.add(gate().passed, 99)
    expect(window.isFull).toBe(true)
  })

  test("a failed send reaches whoever waits, for room or for the end", async () => {
    const window = new SendWindow({ sendsMax: 2, bytesMax: 100 })
    window.add(gate().passed, 1)
    window.add(Promise.reject(new Error("broken")), 1)
    await expect(window.room()).rejects.toThrow("broken")
    const failed = new SendWindow()
    failed.add(Promise.reject(new Error("broken")), 1)
    await expect(failed.settled()).rejects.toThrow("broken")
  })
})

describe("line output", () => {
  const recorded = () => {
    const writes: string[] = []
    const waiting: (() => void)[] = []
    const sink: ByteSink = {
      write(text, done) {
        writes.push(text)
        waiting.push(done)
        return true
      }
    }
    return { writes, waiting, output: new LineOutput(sink) }
  }

  test("lines of one round go out in one write, without being asked", async () => {
    const { output, writes } = recorded()
    output.line("a")
    output.line("b")
    await expect.poll(() => writes).toEqual(["a\nb\n"])
  })

  test("a reader that does not take holds the writer up", async () => {
    const { output, writes, waiting } = recorded()
    const full = output.line("x".repeat(70_000))
    expect(writes).toHaveLength(1)
    let isDone = false
    void full?.then(() => (isDone = true))
    await new Promise((resolve) => setImmediate(resolve))
    expect(isDone).toBe(false)
    waiting[0]?.()
    await full
    expect(isDone).toBe(true)
  })
})

describe("values as text", () => {
  const rows: readonly (readonly [what: string, value: unknown, text: string])[] = [
    ["an object", { a: [1, null, "é"] }, '{"a":[1,null,"é"]}'],
    ["a line break", "a\nb", '"a\\nb"'],
    ["nothing", undefined, "null"],
    ["bytes", Uint8Array.of(1, 2, 3), '"AQID"'],
    ["a buffer", { b: Buffer.from("hi") }, '{"b":"aGk="}'],
    ["a view into a larger buffer", new Uint8Array([9, 1, 2, 3, 9]).subarray(1, 4), '"AQID"'],
    ["a big integer", { n: 2n ** 70n }, '{"n":"1180591620717411303424"}'],
    ["a date", new Date(0), '"1970-01-01T00:00:00.000Z"'],
    ["a map and a set", { map: new Map([["a", 1]]), set: new Set([1n]) }, '{"map":[["a",1]],"set":["1"]}']
  ]
  for (const [what, value, text] of rows) test(what, () => expect(valueText(value)).toBe(text))
})
