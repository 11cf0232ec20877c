// Goal: whoever watches a job learns what it waits for, once, and that it goes on, and nothing of what passes at once.
// Method: handles with a trouble that comes and goes, looked at as the command does.
import { expect, test } from "vitest"
import { Troubles } from "../../src/cli/troubles.ts"
import type { Query } from "../../src/index.ts"

const handle = (name: string): Query & { trouble: { code: string; message: string } | undefined } =>
  ({ name, trouble: undefined }) as unknown as Query & { trouble: { code: string; message: string } | undefined }

test("a trouble that lasts is told once, its end once; one that passes is not told", () => {
  const said: string[] = []
  const troubles = new Troubles((line) => said.push(line))
  const [clicks, cards] = [handle("clicks"), handle("cards")]
  const look = (times: number) => {
    for (let time = 0; time < times; time++) troubles.look([clicks, cards])
  }
  look(3)
  clicks.trouble = { code: "unreachable", message: "NATS at localhost:4222 does not answer" }
  look(4)
  expect(said).toEqual([])
  look(20)
  expect(said).toEqual(["clicks waits: NATS at localhost:4222 does not answer"])
  cards.trouble = { code: "fenced", message: "soon over" }
  look(2)
  cards.trouble = undefined
  clicks.trouble = undefined
  look(3)
  expect(said).toEqual(["clicks waits: NATS at localhost:4222 does not answer", "clicks goes on"])
  clicks.trouble = { code: "unreachable", message: "again" }
  look(5)
  expect(said.at(-1)).toBe("clicks waits: again")
})
