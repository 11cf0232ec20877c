/** What people write: command lines, files to publish, durations, keys, addresses, schemas. */
import { ok } from "node:assert/strict"
import { avro } from "keyfold/codecs/avro"
import { parseCommandLine } from "../../src/cli/arguments.ts"
import { helpOf } from "../../src/cli/help.ts"
import { foreignFormat } from "../../src/cli/input-format.ts"
import { LinePublisher } from "../../src/cli/line-publisher.ts"
import { LineSplitter } from "../../src/cli/lines.ts"
import { requestOf } from "../../src/cli/request.ts"
import { shownPlace } from "../../src/cli/request-place.ts"
import { withoutWorkers } from "../../src/cli/workers.ts"
import { KeyfoldError } from "../../src/errors.ts"
import { parseDuration, toDurationMs } from "../../src/model/duration.ts"
import { partitionOf } from "../../src/model/hash.ts"
import { compareKeyTexts, keyHashText, keyOfText, keyText } from "../../src/model/key.ts"
import { natsSettings } from "../../src/runtime/nats-settings.ts"
import { redisSettings } from "../../src/runtime/redis-settings.ts"
import { agree } from "./agreement.ts"
import { groupsIn } from "./parts.ts"
import type { Target } from "./target.ts"

const secret = "hunter2"

/** Groups: the words, and NAME, value ... of the environment. */
const commandLine: Target = {
  name: "command-line",
  allowed: ["refusal"],
  names: /./,
  words: ["--", "-", "--data", "--nats=", "--job", "run", "publish", "--workers", "=", "-hv", "--__proto__", "--constructor", "--no-close"],
  read: (input) => {
    const [words = [], variables = []] = groupsIn(input).map((group) => group.map(String))
    const environment = Object.fromEntries(variables.flatMap((name, index) => (index % 2 === 0 ? [[name, variables[index + 1]]] : [])))
    ok(withoutWorkers(words).length <= words.length)
    const parsed = parseCommandLine(words)
    if (parsed.kind === "help") ok(helpOf(parsed.command).length > 0)
    if (parsed.kind !== "command") return
    const request = requestOf(parsed, environment)
    if ("place" in request) ok(shownPlace(request.place).length > 0)
  }
}

/** The file that `keyfold publish` reads, in chunks of any size. */
const publishedLines: Target = {
  name: "published-lines",
  allowed: [],
  names: /./,
  inputs: 300,
  words: ["\n", "\r\n", "\ufeff", "null", '"'],
  read: async (input) => {
    const whole = lines([input])
    const chunks = Array.from({ length: Math.ceil(input.length / 7) }, (_, index) => input.subarray(7 * index, 7 * index + 7))
    agree(lines(chunks), whole)
    foreignFormat(input)
    const sent: unknown[] = []
    const publisher = new LinePublisher(
      {
        send: async (value) => {
          keyText(value)
          sent.push(value)
        },
        sendVerbatim: async (bytes) => void sent.push(bytes)
      },
      () => undefined
    )
    const splitter = new LineSplitter()
    for (const line of [...splitter.push(input), ...splitter.end()]) await publisher.take(line)
    await publisher.settled()
    agree(sent.length, publisher.stored)
  }
}

const lineMax = 64

const lines = (chunks: readonly Buffer[]) => {
  const splitter = new LineSplitter(lineMax)
  const found = [...chunks.flatMap((chunk) => splitter.push(chunk)), ...splitter.end()]
  for (const { bytes } of found) ok(bytes.length <= lineMax)
  return found.map(({ number, bytes, byteCount }) => [number, Buffer.from(bytes).toString("latin1"), byteCount])
}

const duration: Target = {
  name: "duration",
  allowed: ["illegal-argument"],
  names: /^the gap /,
  words: ["interval", " ", "year", "seconds", ".", "-", "+", "999999999999999999", "\u00a0", "0.0000000001", "MINUTE"],
  read: (input) => {
    const value = input.toString()
    const ms = parseDuration(value, "the gap")
    ok(Number.isSafeInteger(ms) && ms >= 0)
    agree(toDurationMs(value, 0, "the gap"), ms)
    agree(parseDuration(`${ms} milliseconds`, "the gap"), ms)
  }
}

/** A key as JSON; what is no JSON is a key by itself. */
const key: Target = {
  name: "key",
  allowed: ["key-invalid"],
  names: /^a key must be /,
  words: ["null", "{}", "[]", '"__proto__":', "\\u0000", "\\ud800", "1e999", "-0", "[[[[[[", '\\"', "\u0000"],
  read: (input) => {
    const value = keyIn(input)
    const text = keyText(value)
    agree(keyText(keyOfText(text)), text)
    agree(compareKeyTexts(text, `${text}`), 0)
    ok(typeof keyHashText(text) === "string")
    const partition = partitionOf(text, 16)
    ok(partition >= 0 && partition < 16)
  }
}

const keyIn = (input: Buffer): unknown => {
  try {
    return JSON.parse(input.toString())
  } catch {
    return input.toString()
  }
}

const addressWords = ["://", "@", ":", ",", "/", "[", "]", "::1", "%", "%zz", "tls://", "65536", secret, "?", "#"]

/** Of addresses with a password. It stays out of messages, whatever is wrong with the rest. */
const address = (name: string, read: (text: string) => { readonly name: string }): Target => ({
  name,
  allowed: ["option-invalid"],
  names: /NATS|Redis|clustered/,
  words: addressWords,
  read: (input) => {
    const text = input.toString()
    try {
      ok(!showsSecret(text, read(text).name))
    } catch (thrown) {
      if (thrown instanceof KeyfoldError) ok(!thrown.message.includes(secret), `the message tells the password: ${thrown.message}`)
      throw thrown
    }
  }
})

/** In the name of a host it is no secret. */
const showsSecret = (text: string, name: string): boolean =>
  /^[^@,]*hunter2[^@,]*@[^@]*$/.test(text) && !/@.*hunter2/.test(text) && name.includes(secret)

const avroSchema: Target = {
  name: "avro-schema",
  allowed: ["option-invalid", "schema-incompatible"],
  names: /schema/,
  words: [
    '"type":',
    '"record"',
    '"fields":[]',
    "null",
    '"items":',
    '"Order"',
    '"default":',
    '"logicalType":"decimal"',
    "[[[[",
    '"size":1e9'
  ],
  read: (input) => {
    const codec = avro<unknown>(input.toString())
    ok(codec.fingerprint.startsWith("avro/"))
  }
}

export const commandTargets: readonly Target[] = [
  commandLine,
  publishedLines,
  duration,
  key,
  address("nats-address", (text) => natsSettings(text, {})),
  address("redis-address", (text) => redisSettings(text, {})),
  avroSchema
]
