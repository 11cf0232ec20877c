/**
 * Gives a target its inputs, one after the other, and judges each. The n-th input of a target follows from the seed alone, so a failure is
 * found again by seed and number, and a long run is the short one continued.
 */
import { setFlagsFromString } from "node:v8"
import { createContext, runInNewContext, Script } from "node:vm"
import { crc32 } from "node:zlib"
import { randomFrom } from "../fixtures/random.ts"
import { nextInput } from "./mutation.ts"
import { type Fault, type Outcome, outcomeOf, type Target } from "./target.ts"

/** Z3. What reads these inputs takes a millisecond; the bounds are far away from it, so that a busy machine does not matter. */
const cpuMsMax = 2_000
const hangMs = 20_000
const memoryBytesMax = 96 * 1_048_576
const batchInputs = 128
const sealedShare = 0.75

export interface Failure {
  readonly input: Buffer
  readonly fault: Fault
  /** Of the input; undefined for one that was kept. */
  readonly number?: number
}

export interface Tally {
  inputs: number
  read: number
  readonly refused: Map<string, number>
  readonly failures: Failure[]
}

export interface Course {
  readonly seed: number
  /** Number of the first input. */
  readonly from: number
  /** Whether another one is wanted, after so many. */
  readonly goesOn: (inputs: number) => boolean
  /** Sees each input before it is read. */
  readonly before?: (input: Buffer, number: number) => void
  /** How many different failures are enough. */
  readonly failuresMax: number
}

/** The input of this number. */
export const inputOf = (target: Target, corpus: readonly Buffer[], seed: number, number: number): Buffer => {
  const random = randomFrom(crc32(`${seed}/${target.name}/${number}`))
  const input = nextInput(random, { corpus, words: target.words ?? [], isPlaced: target.isPlaced === true })
  return target.sealed !== undefined && random() < sealedShare ? target.sealed(input) : input
}

export const drive = async (target: Target, corpus: readonly Buffer[], course: Course): Promise<Tally> => {
  const tally: Tally = { inputs: 0, read: 0, refused: new Map(), failures: [] }
  const known = new Set<string>()
  const wants = (): boolean => tally.failures.length < course.failuresMax && course.goesOn(tally.inputs)
  const note = (input: Buffer, number: number, outcome: Outcome): void => {
    tally.inputs += 1
    if (outcome.kind === "read") tally.read += 1
    else if (outcome.kind === "refused") tally.refused.set(outcome.code, (tally.refused.get(outcome.code) ?? 0) + 1)
    else if (!known.has(likeness(outcome))) {
      known.add(likeness(outcome))
      tally.failures.push({ input, number, fault: outcome })
    }
  }
  for (let number = course.from; wants(); ) {
    let current: Buffer = empty
    let pending: Promise<Outcome> | undefined
    const hung = unlessInterrupted(() => {
      for (let left = batchInputs; left > 0 && pending === undefined && wants(); left--) {
        current = inputOf(target, corpus, course.seed, number)
        course.before?.(current, number)
        const outcome = judged(target, current)
        if (outcome instanceof Promise) pending = outcome
        else note(current, number++, outcome)
      }
    })
    if (hung !== undefined) note(current, number++, hung)
    else if (pending !== undefined) note(current, number++, await inTime(pending))
  }
  return tally
}

const empty = Buffer.alloc(0)

/** Failures with the same likeness are one: the error, and where it was thrown. */
export const likeness = ({ what, detail }: Fault): string => `${what} ${/^ +at .*$/m.exec(detail)?.[0] ?? ""}`

/** One input by itself: one that was kept, or a shorter one that may show the same. */
export const judge = async (target: Target, input: Buffer, msMax = hangMs): Promise<Outcome> => {
  let outcome: Outcome | Promise<Outcome> = { kind: "read" }
  const hung = unlessInterrupted(() => {
    outcome = judged(target, input)
  }, msMax)
  return hung ?? (await inTime(outcome))
}

/** What waits for ever is a fault as well. */
const inTime = async (outcome: Outcome | Promise<Outcome>): Promise<Outcome> => {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<Outcome>((done) => {
    timer = setTimeout(done, hangMs, { kind: "fault", what: "hang", detail: `Z3: it does not end within ${hangMs} ms` })
  })
  try {
    return await Promise.race([outcome, late])
  } finally {
    clearTimeout(timer)
  }
}

/** The outcome, unless it took too much. What is measured once may have been anybody's: it counts when it comes again. */
const judged = (target: Target, input: Buffer): Outcome | Promise<Outcome> => {
  const first = measured(target, input)
  if (first.outcome instanceof Promise) return first.outcome
  if (!first.isTooMuch) return first.outcome
  const again = [1, 2].map(() => {
    collectGarbage() // else what the last time has left is used again
    return measured(target, input)
  })
  return again.every(({ isTooMuch }) => isTooMuch) ? tooMuch([first, ...again]) : first.outcome
}

interface Measured {
  readonly outcome: Outcome | Promise<Outcome>
  readonly cpuMs: number
  readonly bytes: number
  readonly isTooMuch: boolean
}

/** Processor time, not the clock's: it does not grow with what else the machine does. */
const measured = (target: Target, input: Buffer): Measured => {
  const { rss } = process.memoryUsage
  const bytesBefore = rss()
  const cpuBefore = process.cpuUsage()
  const outcome = outcomeOf(target, input)
  const { user, system } = process.cpuUsage(cpuBefore)
  const cpuMs = (user + system) / 1_000
  const bytes = rss() - bytesBefore
  return { outcome, cpuMs, bytes, isTooMuch: cpuMs > cpuMsMax || bytes > memoryBytesMax }
}

const tooMuch = (times: readonly Measured[]): Fault => {
  const cpuMs = Math.min(...times.map((time) => time.cpuMs))
  const bytes = Math.min(...times.map((time) => time.bytes))
  return cpuMs > cpuMsMax
    ? { kind: "fault", what: "slow", detail: `Z3: it took ${Math.round(cpuMs)} ms` }
    : { kind: "fault", what: "memory", detail: `Z3: it took ${Math.round(bytes / 1_048_576)} MiB` }
}

/** Runs what must not run for ever; a loop without an end is broken off, and is a fault. */
const unlessInterrupted = (run: () => void, timeout = hangMs): Fault | undefined => {
  try {
    place["run"] = run
    watched.runInContext(place, { timeout })
    return undefined
  } catch (thrown) {
    if ((thrown as { readonly code?: unknown }).code !== "ERR_SCRIPT_EXECUTION_TIMEOUT") throw thrown
    return { kind: "fault", what: "hang", detail: `Z3: it does not end within ${timeout} ms` }
  }
}

setFlagsFromString("--expose-gc")
const collectGarbage = runInNewContext("gc") as () => void

const place = createContext({})
const watched = new Script("run()")
