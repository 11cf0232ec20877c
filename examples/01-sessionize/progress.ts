/** What a long step is doing: one line that is written over on a terminal; elsewhere only the line at its end. */

export interface Progress extends Disposable {
  at(what: string): void
  done(what: string): void
}

const clearLine = "\r\x1b[2K"

export const progress = (step: string, out: NodeJS.WriteStream = process.stdout): Progress => {
  const wipe = (): void => void (out.isTTY && out.write(clearLine))
  return {
    at: (what) => void (out.isTTY && out.write(`${clearLine}${step}: ${what}`)),
    done(what) {
      wipe()
      out.write(`${what}\n`)
    },
    [Symbol.dispose]: wipe
  }
}
