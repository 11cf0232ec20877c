// Goal: the simulated JetStream stores, refuses, removes and tells as real servers do, so that what the simulator shows is true of them.
// Method: the same random messages and questions go to both, and every answer is compared, but for times. Rerun with SEED=<n>.
import { headers, type NatsConnection } from "@nats-io/transport-node"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { Dice } from "../../src/simulation/dice.ts"
import { NatsServer } from "../../src/simulation/nats-server.ts"
import { World } from "../../src/simulation/world.ts"
import { natsClient } from "../law/jetstream-store.ts"
import { startNats } from "../servers/nats-server.ts"
import type { Server } from "../servers/server.ts"
import { compareVersions, natsVersions, running } from "../servers/versions.ts"

const seed = Number(process.env["SEED"] ?? 1)
const rounds = 12
const callsPerRound = 80

interface Call {
  readonly subject: string
  readonly data: string
  readonly id?: string | undefined
  readonly expected?: number | undefined
}

type Ask = (call: Call) => Promise<unknown>

const askReal =
  (connection: NatsConnection): Ask =>
  async ({ subject, data, id, expected }) => {
    const block = headers()
    if (id !== undefined) block.set("Nats-Msg-Id", id)
    if (expected !== undefined) block.set("Nats-Expected-Last-Subject-Sequence", String(expected))
    const withHeaders = id !== undefined || expected !== undefined
    return told((await connection.request(subject, data, { timeout: 5_000, ...(withHeaders && { headers: block }) })).json())
  }

const askSimulated =
  (server: NatsServer): Ask =>
  async ({ subject, data, id, expected }) => {
    const lines = [
      id !== undefined ? `Nats-Msg-Id: ${id}` : "",
      expected !== undefined ? `Nats-Expected-Last-Subject-Sequence: ${expected}` : ""
    ]
    const own = lines.filter((line) => line !== "")
    let answered: unknown
    server.take({
      subject,
      data: Buffer.from(data),
      headers: own.length === 0 ? new Uint8Array(0) : Buffer.from(`NATS/1.0\r\n${own.join("\r\n")}\r\n\r\n`),
      reply: { subject: "_INBOX", isOpen: () => true, deliver: (message) => (answered = JSON.parse(Buffer.from(message.data).toString())) }
    })
    return told(answered)
  }

interface Answer {
  readonly error?: { readonly code: number; readonly err_code: number }
  readonly seq?: number
  readonly duplicate?: boolean
  readonly purged?: number
  readonly message?: { readonly seq: number; readonly subject: string; readonly data?: string }
  readonly state?: { readonly messages: number; readonly first_seq: number; readonly last_seq: number; readonly subjects?: object }
}

/** What keyfold reads of an answer. */
const told = (answer: unknown): unknown => {
  const { error, seq = 0, duplicate = false, purged, message, state } = answer as Answer
  if (error !== undefined) return { refused: [error.code, error.err_code] }
  if (message !== undefined) return { message: [message.seq, message.subject, message.data ?? ""] }
  // Before the first message servers differ in what they call the first sequence.
  if (state !== undefined) {
    const { messages, first_seq: first, last_seq: last, subjects } = state
    return { state: [messages, last === 0 ? 0 : first, last, subjects === undefined ? {} : subjects] }
  }
  return { seq, duplicate, purged }
}

const subjects = (name: string): readonly string[] => ["", ".a", ".b"].map((writer) => `${name}.0${writer}`)

const callOf = (name: string, dice: Dice, { lastSequence, isOld }: { readonly lastSequence: number; readonly isOld: boolean }): Call => {
  const stream = `${name}-0`
  const subject = dice.pick(subjects(name))
  const sequence = dice.whole(0, lastSequence + 2)
  const ask = (what: string, request: object): Call => ({ subject: `$JS.API.STREAM.${what}.${stream}`, data: JSON.stringify(request) })
  const publish: Call = {
    ...{ subject, data: `data ${dice.whole(0, 1_000)}` },
    id: dice.chance(0.6) ? `id ${dice.whole(0, 15)}` : undefined,
    expected: dice.chance(0.5) ? dice.pick([0, sequence]) : undefined
  }
  return dice.pick([
    ...[publish, publish, publish, publish, publish, publish],
    ask("MSG.GET", { seq: Math.max(1, sequence) }),
    ask("MSG.GET", { seq: Math.max(1, sequence), next_by_subj: ">" }),
    ask("MSG.GET", { last_by_subj: subject }),
    ask("INFO", dice.chance(0.5) ? { subjects_filter: ">" } : {}),
    dice.chance(0.3) ? ask("PURGE", { seq: Math.max(2, Math.min(sequence, lastSequence + 1)) }) : publish,
    dice.chance(0.3) && !isOld ? ask("PURGE", { filter: subject, seq: Math.max(2, Math.min(sequence, lastSequence + 1)) }) : publish
  ])
}

describe.each(natsVersions())("simulated JetStream beside nats-server %s", (version) => {
  let server: Server
  let connection: NatsConnection
  beforeAll(async () => {
    server = await startNats({ version })
    connection = await natsClient(server.url)
  })
  afterAll(async () => {
    await connection.close()
    await server.stop()
  })

  test(`P3, P4, P12 to P14, P26: any messages and questions are answered alike (SEED=${seed})`, async () => {
    const actual = version === running ? (connection.info?.version ?? "") : version
    const ask = {
      real: askReal(connection),
      simulated: askSimulated(
        new NatsServer(new World(seed), { looksAtSequenceFirst: compareVersions(actual, "2.11.0") >= 0, isCluster: false })
      )
    }
    // Servers before 2.10 miscount when one subject is purged: the first sequence, and how many messages a subject has.
    const isOld = compareVersions(actual, "2.10.0") < 0
    const both = async (call: Call, at: string): Promise<unknown> => {
      const said = await ask.real(call)
      expect(await ask.simulated(call), `${at}: ${JSON.stringify(call)}`).toEqual(said)
      return said
    }
    for (let round = 0; round < rounds; round++) {
      const dice = new Dice(seed, round)
      const name = `sim${round}`
      const config = { name: `${name}-0`, subjects: [`${name}.0`, `${name}.0.*`], storage: "file" }
      await both({ subject: `$JS.API.STREAM.CREATE.${name}-0`, data: JSON.stringify(config) }, `round ${round}`)
      let last = 0
      for (let call = 0; call < callsPerRound; call++) {
        const said = (await both(callOf(name, dice, { lastSequence: last, isOld }), `round ${round}, call ${call}`)) as {
          readonly seq?: number
        }
        last = Math.max(last, said.seq ?? 0)
      }
    }
    await both({ subject: "$JS.API.STREAM.INFO.none-0", data: "{}" }, "a stream that is not there")
  })
})
