/**
 * Watches a simulated Redis for what must never be, whatever goes wrong, and whatever comes out in the end: writes of owners that were
 * replaced, leases that are given while they run, owners that write on when theirs has run out, and answers that tell of a loss where
 * nothing was lost. What it knows it has from the calls and answers alone.
 */
import { commit } from "../journal/scripts.ts"
import { acquire, release } from "../partition/ownership-scripts.ts"
import { witness } from "../storage/redis-fence.ts"
import { type RedisReply, replyParts, replyText } from "../storage/redis-link.ts"
import type { ScriptCall } from "./redis-server.ts"

/** What is known of a journal; undefined is not known. */
interface Seen {
  epoch: number
  worker: string | undefined
  /** The last turn. */
  head: number | undefined
  /** By Redis' clock, which is what counts. */
  leaseEndMs: number
  /** By the true time, which is what an owner can know; of each epoch. */
  readonly trueEndsMs: Map<number, number>
  /** When the owner's last call that has run was sent: an older one that comes after it was overtaken. */
  lastSentMs: number
  /** Whether Redis has ever lost something: then owners do not know that they are none any more. */
  hasLost: boolean
}

export interface RanAt {
  /** When the client sent it, and when the server ran it; and what time it was by the server's clock. */
  readonly sentMs: number
  readonly nowMs: number
  readonly clockMs: number
}

export class Referee {
  readonly #journals = new Map<string, Seen>()
  /** What was against the rules first. */
  foul: string | undefined

  ran(call: ScriptCall, reply: RedisReply, at: RanAt): void {
    const name = call.keys[0] as string
    let seen = this.#journals.get(name)
    if (seen === undefined) {
      seen = {
        epoch: 0,
        worker: undefined,
        head: undefined,
        leaseEndMs: 0,
        trueEndsMs: new Map(),
        lastSentMs: 0,
        hasLost: false
      }
      this.#journals.set(name, seen)
    }
    if (call.lua === acquire) this.#acquired(name, seen, call, { reply, at })
    else if (call.lua === release && replyText(reply) === "OK") seen.leaseEndMs = 0
    else this.#answered(name, seen, call, { answer: replyText(reply), at })
  }

  /** Redis has lost its last scripts: what it gave may be given again, and what it knew it may not know. */
  restored(): void {
    for (const seen of this.#journals.values()) {
      seen.epoch = 0
      seen.head = undefined
      seen.leaseEndMs = 0
      seen.trueEndsMs.clear()
      seen.hasLost = true
    }
  }

  #acquired(name: string, seen: Seen, { args }: ScriptCall, { reply, at }: { readonly reply: RedisReply; readonly at: RanAt }): void {
    const [outcome, epochText, , head] = replyParts(reply).map(replyText)
    if (outcome !== "OK") return
    const epoch = Number(epochText)
    const worker = args[1]
    if (epoch < seen.epoch) this.#call(`${name}: epoch ${epoch} is given after ${seen.epoch} (L1)`)
    if (worker !== seen.worker && Math.floor(at.clockMs) < Math.floor(seen.leaseEndMs))
      this.#call(`${name} is given to ${worker} while the lease of ${seen.worker} runs (P1)`)
    // Sent again, it is the same acquisition.
    if (epoch !== seen.epoch) seen.lastSentMs = 0
    Object.assign(seen, { epoch, worker, head: Number(head) })
    prolong(seen, epoch, at, Number(args[2]))
  }

  #answered(name: string, seen: Seen, { lua, args }: ScriptCall, { answer, at }: { readonly answer: string; readonly at: RanAt }): void {
    const epoch = Number(args[0]?.split(".")[0])
    const isTaken = epoch === seen.epoch && (answer === "OK" || answer === "ALREADY") && lua !== release
    if (isTaken) prolong(seen, epoch, at, Number(args[lua === witness ? 2 : 3]))
    const isOvertaken = epoch === seen.epoch && at.sentMs < seen.lastSentMs
    if (epoch === seen.epoch) seen.lastSentMs = Math.max(seen.lastSentMs, at.sentMs)
    // Who gives back what it has lost meanwhile, or asks whether it has, does no harm.
    const isWrite = lua !== release && lua !== witness
    if (isWrite && at.sentMs > (seen.trueEndsMs.get(epoch) ?? Number.POSITIVE_INFINITY)) {
      this.#call(`${name}: the owner of epoch ${epoch} still writes, though its lease had run out when that was sent (P21)`)
    }
    if (answer === "MOVED" && !seen.hasLost && !isOvertaken) {
      this.#call(`${name}: MOVED is answered to the owner of epoch ${epoch}, though Redis has lost nothing (F)`)
    }
    if (lua !== commit || answer !== "OK") return
    const revision = Number(args[4])
    if (epoch < seen.epoch) this.#call(`${name}: a commit of epoch ${epoch} is taken, though ${seen.epoch} has it (F)`)
    if (seen.head !== undefined && revision !== seen.head + 1)
      this.#call(`${name}: turn ${revision} is committed behind turn ${seen.head} (P8)`)
    seen.head = revision
  }

  #call(foul: string): void {
    this.foul ??= foul
  }
}

const prolong = (seen: Seen, epoch: number, { nowMs, clockMs }: RanAt, leaseMs: number): void => {
  seen.leaseEndMs = clockMs + leaseMs
  seen.trueEndsMs.set(epoch, nowMs + leaseMs)
}
