/** What the command was not able to do, with an exit code and words for the person who can mend it. */

/** 0 done or drained · 1 failed · 2 wrong usage or a refused job · 130 and 143 left by SIGINT and SIGTERM with work undone */
export type ExitCode = 0 | 1 | 2 | 130 | 143

/** The user can mend it: printed without a stack trace, the hint on a line of its own. */
export class Refusal extends Error {
  override readonly name = "Refusal"
  readonly exitCode: 1 | 2
  readonly hint: string | undefined

  constructor(exitCode: 1 | 2, message: string, hint?: string) {
    super(message)
    this.exitCode = exitCode
    this.hint = hint
  }
}

/** The command line asks for something that does not exist. */
export const misuse = (message: string, hint?: string): Refusal => new Refusal(2, message, hint)
