/** What servers answer: to a message, to a look, about a topic, and what members say of each other through Redis. */
import { ok } from "node:assert/strict"
import { headers, type Msg } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import { assign } from "../../src/partition/assignment.ts"
import { answerOf } from "../../src/partition/membership-scripts.ts"
import { MembershipView } from "../../src/partition/membership-view.ts"
import { newsOf, newsText } from "../../src/partition/news-text.ts"
import { type Hitch, hitchError, hitchOf, isHitch, readAck, readReply } from "../../src/sink/jetstream-answers.ts"
import { isMessage, look } from "../../src/sink/jetstream-look.ts"
import type { JetStreamLink } from "../../src/sink/jetstream-publish.ts"
import type { JetStreamApi, StreamInfo } from "../../src/source/jetstream-api.ts"
import { Topics } from "../../src/source/jetstream-topics.ts"
import type { RedisReply } from "../../src/storage/redis-link.ts"
import { agree } from "./agreement.ts"
import { groupsIn } from "./parts.ts"
import { settled } from "./settled.ts"
import type { Target } from "./target.ts"

const messageOf = (data: Buffer): Msg =>
  ({ data: new Uint8Array(data), headers: data.length === 0 ? headers(503, "No Responders") : undefined }) as unknown as Msg

const jsonWords = ["null", "{}", "[]", "true", '"seq":', '"error":', '"duplicate":true', '"err_code":10071', "1e999", "-1", "0.5", '""']

/** Anybody who listens on the subject may answer first, and with anything. */
const publishAnswer: Target = {
  name: "publish-answer",
  allowed: [],
  names: /./,
  words: jsonWords,
  read: (input) => {
    const message = messageOf(input)
    const ack = readAck(message)
    if (typeof ack === "number") ok(Number.isSafeInteger(ack) && ack > 0, `a sequence: ${ack}`)
    else checkHitch(ack)
    const reply = readReply<{ readonly message?: unknown }>(message)
    ok(typeof reply === "object")
    if (isHitch(reply)) checkHitch(reply)
    else if (reply.error !== undefined) checkHitch(hitchOf(reply.error))
  }
}

const checkHitch = (hitch: Hitch): void => {
  ok(["look", "again", "full", "nobody", "refused"].includes(hitch.kind))
  ok(hitchError("clicks-0", hitch).message.includes("clicks-0"))
}

/** P14: what the leader says of the last message of a writer. */
const lookAnswer: Target = {
  name: "look-answer",
  allowed: ["output-fate-unknown", "unreachable", "topic-mismatch", "storage-full"],
  names: /clicks-0/,
  words: [...jsonWords, '"hdrs":"', '"message":', '"state":'],
  read: async (input) => {
    const answers = [input, input]
    const ask = () => Effect.succeed(messageOf(answers.pop() ?? Buffer.from('{"message":{"seq":5,"hdrs":"a2YtbjogMwo="},"state":{}}')))
    const link = { up: Effect.void, ask } as unknown as JetStreamLink
    const found = await settled(look({ link, apiPrefix: "$JS.API" }, { topic: "clicks", partition: 0 }, "w"))
    if (isMessage(found)) {
      ok(Number.isSafeInteger(found.number) && found.number > 0, `a number: ${found.number}`)
      ok(Number.isSafeInteger(found.sequence), `a sequence: ${found.sequence}`)
    }
  }
}

/** What the stream of a topic says of itself, in its description. */
const topicDescription: Target = {
  name: "topic-description",
  allowed: ["topic-mismatch", "format-newer"],
  names: /clicks/,
  words: ['"keyfold":', '"partitions":', "1000000000", "null", "{}", "[]", "2"],
  read: async (input) => {
    const info = { config: { description: input.toString(), num_replicas: 1 }, created: "2026-01-01T00:00:00Z" } as unknown as StreamInfo
    const api = {
      streamInfo: () => Effect.succeed(info),
      patiently: <A>(asked: Effect.Effect<A>) => asked
    } as unknown as JetStreamApi
    const found = await settled(new Topics(api, { replicas: 1 }).open("clicks", { partitions: undefined, partitionsDefault: 1 }))
    agree(found.created.length, found.partitions)
  }
}

const partitions = [0, 1, 2].map((partition) => ({ stage: "a", partition }))

/** Groups: word, what, revision · members · entries · owners · news · revisions. */
const membership: Target = {
  name: "membership",
  allowed: [],
  names: /./,
  words: ["ok", "all", "changed", "oa/0", "na/1", "oa/", "n", "__proto__", '["read",[1e999,0,1],[0,0,0],[]]', "NaN"],
  read: (input) => {
    const [head = [], ...lists] = groupsIn(input)
    const reply: RedisReply = [...Array.from({ length: 3 }, (_, index) => head[index] ?? null), ...lists]
    const answer = answerOf(reply)
    if (answer === "gone" || answer === "late") return
    const view = new MembershipView(partitions)
    view.take(answer, new Set(["a/2"]))
    view.take({ ...answer, isWhole: false }, new Set())
    view.letGo({ stage: "a", partition: 1 }, { news: silent, fresh: true }, "m")
    const assigned = partitions.map(({ partition }) => view.assigneeOf(`a/${partition}`))
    ok(answer.members.length === 0 || assigned.every((member) => member !== undefined && answer.members.includes(member)))
    for (const { news } of view.words("a").values()) agree(newsOf(newsText(news)), news)
  }
}

const silentClock = { watermarkMs: 0, idle: false, shown: false }
const silent = { own: silentClock, outgoing: silentClock, positions: [], phase: "reading" } as const

/** M2 of whatever members and owners there are. */
const assignment: Target = {
  name: "assignment",
  allowed: [],
  names: /./,
  words: ["a/0", "a/1", "__proto__", "m"],
  read: (input) => {
    const [members = [], owners = []] = groupsIn(input).map((group) => group.map(String))
    const found = assign({ members, partitions, owners: new Map(owners.map((owner, index) => [`a/${index}`, owner])) })
    ok(members.length === 0 || partitions.every(({ partition }) => members.includes(found.get(`a/${partition}`) ?? "")))
  }
}

export const serverTargets: readonly Target[] = [publishAnswer, lookAnswer, topicDescription, membership, assignment]
