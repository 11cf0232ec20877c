/** Watches a simulated Redis for what must never be, whatever goes wrong: an accepted write of an owner that was replaced (F, P1). */
import { commit } from "../journal/scripts.ts"
import { acquire } from "../partition/ownership-scripts.ts"
import { type RedisReply, replyParts, replyText } from "../storage/redis-link.ts"
import type { ScriptCall } from "./redis-server.ts"

interface Seen {
  epoch: number
  /** The last turn; undefined when it is not known. */
  head: number | undefined
}

export class Referee {
  readonly #journals = new Map<string, Seen>()
  /** What was against the rules first. */
  foul: string | undefined

  ran({ lua, keys, args }: ScriptCall, reply: RedisReply): void {
    const name = keys[0] as string
    const seen = this.#journals.get(name) ?? { epoch: 0, head: undefined }
    this.#journals.set(name, seen)
    if (lua === acquire) {
      const [outcome, epoch, , head] = replyParts(reply).map(replyText)
      if (outcome !== "OK") return
      if (Number(epoch) < seen.epoch) this.#call(`${name}: epoch ${epoch} is given after ${seen.epoch}`)
      seen.epoch = Number(epoch)
      seen.head = Number(head)
    } else if (lua === commit && replyText(reply) === "OK") {
      const [epoch, revision] = [Number(args[0]?.split(".")[0]), Number(args[4])]
      if (epoch < seen.epoch) this.#call(`${name}: a commit of epoch ${epoch} is taken, though ${seen.epoch} has it (P1)`)
      if (seen.head !== undefined && revision !== seen.head + 1)
        this.#call(`${name}: turn ${revision} is committed behind turn ${seen.head} (P8)`)
      seen.head = revision
    }
  }

  /** Redis has lost its last scripts: what it gives next may be given again. */
  restored(): void {
    this.#journals.clear()
  }

  #call(foul: string): void {
    this.foul ??= foul
  }
}
