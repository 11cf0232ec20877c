/** Makes an input that fails shorter and plainer, as long as it fails in the same way: what is kept should be readable. */
import { judge, likeness } from "./engine.ts"
import type { Fault, Target } from "./target.ts"

const attemptsMax = 2_000
const attemptMsMax = 2_000
/** An input that hangs costs the whole time at each attempt. */
const attemptsMaxSlow = 20
const plainByte = 0x30

export const shrunk = async (target: Target, input: Buffer, fault: Fault): Promise<Buffer> => {
  const isSlow = fault.what === "hang" || fault.what === "slow"
  let left = isSlow ? attemptsMaxSlow : attemptsMax
  let best = input
  const wanted = likeness(fault)
  const fails = async (candidate: Buffer): Promise<boolean> => {
    left -= 1
    const outcome = await judge(target, candidate, attemptMsMax)
    return outcome.kind === "fault" && (isSlow ? outcome.what === fault.what : likeness(outcome) === wanted)
  }
  for (let size = Math.ceil(best.length / 2); size >= 1 && left > 0; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < best.length && left > 0; ) {
      const without = Buffer.concat([best.subarray(0, at), best.subarray(at + size)])
      if (await fails(without)) best = without
      else at += size
    }
  }
  for (let at = 0; at < best.length && left > 0; at++) {
    if (best[at] === plainByte) continue
    const plainer = Buffer.from(best)
    plainer[at] = plainByte
    if (await fails(plainer)) best = plainer
  }
  return best
}
