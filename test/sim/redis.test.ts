// Goal: the scripts of the simulated Redis do what the real ones do in Lua, so that what the simulator shows is true of real servers.
// Method: the same random calls go to both; after each the replies, and at last all keys, are compared, but for times, as the clocks differ.
// Rerun with SEED=<n>.
import * as Effect from "effect/Effect"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { checkpointChunk, checkpointEnd, commit, confirm } from "../../src/journal/scripts.ts"
import { memberKeys, speak } from "../../src/partition/membership-scripts.ts"
import { acquire, release } from "../../src/partition/ownership-scripts.ts"
import { Dice } from "../../src/simulation/dice.ts"
import { bytesOf } from "../../src/simulation/redis-data.ts"
import { RedisServer } from "../../src/simulation/redis-server.ts"
import { World } from "../../src/simulation/world.ts"
import { journalKeys, witness } from "../../src/storage/redis-fence.ts"
import type { RedisArgument, RedisReply } from "../../src/storage/redis-link.ts"
import { connectTo } from "../law/redis-process.ts"
import { startRedis } from "../servers/redis-server.ts"
import type { Server } from "../servers/server.ts"
import { redisVersions } from "../servers/versions.ts"

const seed = Number(process.env["SEED"] ?? 1)
const rounds = 30
const callsPerRound = 60

/** One server of the two: a script, and a command that reads. */
interface Side {
  readonly script: (lua: string, keys: readonly string[], args: readonly RedisArgument[]) => Promise<RedisReply>
  readonly command: (name: string, key: string, args: readonly string[]) => Promise<RedisReply>
}

const simulatedSide = (): Side => {
  const server = new RedisServer(new World(seed))
  return {
    script: async (lua, keys, args) => server.answer({ lua, keys: keys.map(bytesOf), args: args.map(bytesOf) }),
    command: async (command, key, args) => server.answer({ command, key: bytesOf(key), args: args.map(bytesOf) })
  }
}

/** Texts, without times: what has 13 digits and more. */
const plain = (reply: RedisReply): unknown => {
  if (reply instanceof Buffer) return reply.toString("latin1").replaceAll(/\d{13,}/g, "<time>")
  return Array.isArray(reply) ? reply.map(plain) : reply
}

/** What `left` says, in a lease that another has, is a matter of moments. */
const compared = (reply: RedisReply): unknown => {
  const said = plain(reply)
  return Array.isArray(said) && said[0] === "HELD" ? said.slice(0, 2) : said
}

class Journal {
  readonly keys: readonly string[]
  token = "0.none"
  rev = 0
  op = 0
  head = 0

  constructor(name: string) {
    this.keys = journalKeys(name, { query: "q", stage: "s", partition: 0 }).all
  }

  /** The next call: mostly one that is in order, sometimes one of an older owner, of an older state, or one that was sent before. */
  next(dice: Dice): readonly [lua: string, args: readonly RedisArgument[]] {
    const worker = dice.pick(["one", "two"])
    const token = dice.chance(0.9) ? this.token : "1.stale"
    const rev = String(dice.chance(0.9) ? this.rev : this.rev - 1)
    const op = String(dice.chance(0.9) ? ++this.op : this.op)
    const fence = [token, rev, op, "5000"]
    const bytes = Buffer.from([0, 255, dice.whole(0, 255)])
    const key = (): RedisArgument => dice.pick(["a", "b", "é", Buffer.from([1, 200])])
    const calls = [
      [acquire, [dice.pick(["n1", "n2", "n3"]), worker, dice.pick(["0", "60000"]), dice.chance(0.05) ? "0" : "1"]],
      [release, [token, rev]],
      [witness, [token, rev, "5000"]],
      [
        commit,
        [...fence, String(this.head + 1), String(dice.whole(0, this.head)), bytes, dice.chance(0.5) ? bytes : "", dice.pick(["", "json"])]
      ],
      [commit, [...fence, String(this.head + 1), "0", bytes, "", ""]],
      [confirm, [...fence, String(this.head)]],
      [checkpointChunk, [...fence, "2", key(), bytes, "c", "state", "1", key(), "2", "17", key(), "18", "c", "1", key()]],
      [checkpointChunk, [...fence, "0", "1", "c", "0", "1", "c"]],
      [
        checkpointEnd,
        [...fence, String(this.head), "progress", "0", String(dice.whole(0, this.head + 1)), String(dice.whole(0, this.head))]
      ]
    ] as const
    return dice.pick(calls)
  }

  took(lua: string, args: readonly RedisArgument[], reply: unknown): void {
    if (lua === acquire && Array.isArray(reply) && reply[0] === "OK") {
      this.token = `${reply[1]}.${args[0]}`
      this.rev = Number(reply[2])
      this.head = Number(reply[3])
    } else if (reply === "OK" && lua !== witness && lua !== release) {
      this.rev += 1
      if (lua === commit) this.head += 1
    }
  }
}

/** What one member says, with what this side has answered it last. */
class Member {
  readonly id: string
  calls = 0
  readonly revisions: [string, string] = ["0", "0"]

  constructor(id: string) {
    this.id = id
  }

  next(dice: Dice): readonly [head: (since: string) => readonly string[], lists: readonly string[]] {
    const mode = dice.pick(["join", "stay", "stay", "stay", "stay", "leave"])
    const call = String(dice.chance(0.9) ? ++this.calls : this.calls)
    const leaseMs = dice.pick(["0", "60000"])
    const partition = (): string => `s/${dice.whole(0, 3)}`
    const list = (width: number): string[] => {
      const count = dice.whole(0, 2)
      return [String(count), ...Array.from({ length: count }, () => (width === 1 ? [partition()] : [partition(), `word ${call}`])).flat()]
    }
    const head = (since: string): readonly string[] => [this.id, mode, leaseMs, mode === "join" ? "0" : since, "86400000", call]
    return [head, [...list(1), ...list(2), ...list(1)]]
  }
}

/** Order of members and of what has changed at one time is the server's own. */
const spoken = (reply: unknown): unknown => {
  if (!Array.isArray(reply) || reply[0] !== "ok") return reply
  const [word, what, revision, members, entries, owners, news, revisions] = reply as [
    string,
    string,
    string,
    string[],
    string[],
    string[],
    string[],
    string[]
  ]
  const values = { o: owners.values(), n: news.values() }
  const told = entries.map((entry) => `${entry} ${values[entry[0] as "o" | "n"].next().value}`)
  return [word, what, revision, members.toSorted(), told.toSorted(), revisions.length]
}

const dump = async ({ command }: Side, keys: readonly string[]): Promise<unknown> => {
  const [meta, log, outbox, state, timeouts] = keys as [string, string, string, string, string]
  const hash = async (key: string): Promise<unknown> => {
    const parts = (await command("HGETALL", key, [])) as readonly Buffer[]
    const pairs = Array.from({ length: parts.length / 2 }, (_, index) => [
      plain(parts[2 * index] as Buffer),
      plain(parts[2 * index + 1] as Buffer)
    ])
    return Object.fromEntries(pairs)
  }
  const stream = async (key: string): Promise<unknown> => plain(await command("XRANGE", key, ["1-0", "+", "COUNT", "1000"]))
  const sorted = async (key: string): Promise<unknown> =>
    plain(await command("ZRANGEBYSCORE", key, ["-inf", "+inf", "WITHSCORES", "LIMIT", "0", "100"]))
  return {
    meta: await hash(meta),
    log: await stream(log),
    outbox: await stream(outbox),
    state: await hash(state),
    timeouts: await sorted(timeouts)
  }
}

describe.each(redisVersions())("simulated Redis beside redis %s", (version) => {
  let server: Server
  beforeAll(async () => {
    server = await startRedis({ version })
  })
  afterAll(() => server.stop())

  const beside = (body: (real: Side) => Promise<void>): Promise<void> =>
    Effect.runPromise(
      Effect.scoped(
        Effect.flatMap(connectTo(server.url), (link) =>
          Effect.promise(() =>
            body({
              script: (lua, keys, args) => Effect.runPromise(link.script(lua, keys, args)),
              command: (name, key, args) => Effect.runPromise(link.command(name, key, args))
            })
          )
        )
      )
    )

  test(`F, P1, P8, P19, P20, P21: any calls of one journal are answered alike and leave the same (SEED=${seed})`, () =>
    beside(async (real) => {
      for (let round = 0; round < rounds; round++) {
        const dice = new Dice(seed, round)
        const simulated = simulatedSide()
        const journal = new Journal(`sim-${seed}-${round}`)
        for (let call = 0; call < callsPerRound; call++) {
          const [lua, args] = journal.next(dice)
          const said = compared(await real.script(lua, journal.keys, args))
          expect(compared(await simulated.script(lua, journal.keys, args)), `round ${round}, call ${call}`).toEqual(said)
          journal.took(lua, args, said)
        }
        expect(await dump(simulated, journal.keys), `round ${round}`).toEqual(await dump(real, journal.keys))
      }
    }))

  test(`M1 to M6: members of a query are answered alike (SEED=${seed})`, () =>
    beside(async (real) => {
      for (let round = 0; round < rounds; round++) {
        const dice = new Dice(seed, 1_000 + round)
        const simulated = simulatedSide()
        const keys = memberKeys(`sim-${seed}-${round}`)
        const members = ["m1", "m2", "m3"].map((id) => new Member(id))
        for (let call = 0; call < callsPerRound; call++) {
          const member = dice.pick(members)
          const [head, lists] = member.next(dice)
          const isStale = dice.chance(0.1)
          const replies = await Promise.all(
            [real, simulated].map(async (side, index) => {
              const reply = await side.script(speak, keys, [...head(isStale ? "17" : (member.revisions[index] as string)), ...lists])
              if (Array.isArray(reply) && String(reply[0]) === "ok") member.revisions[index] = String(reply[2])
              return spoken(plain(reply))
            })
          )
          expect(replies[1], `round ${round}, call ${call}`).toEqual(replies[0])
        }
      }
    }))
})
