/** What must hold in a chaos run, and what did not. */

export const rules = {
  lost: "every session of the model has come out",
  doubled: "none came out twice",
  disordered: "those of a reader came in order",
  altered: "each is as the model says, and none that the model does not know",
  copied: "no copy lies in the output streams (P12, P13)",
  skipped: "no output of a writer is missing in between (P17)",
  miscounted: "the states that number the sessions of a group counted each once",
  read: "a keyfold reader sees the same (P17)",
  input: "what was published lies in the topic, once",
  dead: "no dead letter, no late row",
  worker: "no worker ended or failed by itself, and each that was told to end did so in order",
  memory: "the memory of every worker stayed bounded",
  standstill: "results kept coming out of every stream",
  drained: "when the faults were over, everything drained",
  tool: "the run itself did what it was to do"
} as const

export type Rule = keyof typeof rules

export interface Violation {
  readonly rule: Rule
  readonly text: string
  /** Of the run. */
  readonly atMs: number
}

export type Violated = (rule: Rule, text: string) => void

export class Verdict {
  readonly violations: Violation[] = []
  readonly #nowMs: () => number
  readonly #say: (line: string) => void

  constructor(nowMs: () => number, say: (line: string) => void) {
    this.#nowMs = nowMs
    this.#say = say
  }

  get holds(): boolean {
    return this.violations.length === 0
  }

  readonly violated: Violated = (rule, text) => {
    this.violations.push({ rule, text, atMs: this.#nowMs() })
    if (this.of(rule).length <= saidMax) this.#say(`DID NOT HOLD: ${rules[rule]}: ${text}`)
  }

  of(rule: Rule): readonly Violation[] {
    return this.violations.filter((violation) => violation.rule === rule)
  }
}

const saidMax = 5
