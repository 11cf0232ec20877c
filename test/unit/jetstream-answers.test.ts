// Goal: every answer that servers give to a message means what P13 to P15 say.
// Method: a table of answers, most of them as nats-server 2.9.10, 2.10.27 and 2.15.1 gave them.
import { headers, type Msg } from "@nats-io/transport-node"
import { expect, test } from "vitest"
import { hitchError, isHitch, isStoredBefore, readAck } from "../../src/sink/jetstream-answers.ts"

const answer = (text: string, status?: number): Msg =>
  ({ data: Buffer.from(text), headers: status === undefined ? undefined : headers(status, "No Responders") }) as unknown as Msg

const refusal = (code: number, errorCode: number, description: string): string =>
  `{"error":{"code":${code},"err_code":${errorCode},"description":"${description}"},"stream":"out-0","seq":0}`

test("P13 an acknowledgement says where the message is", () => {
  expect(readAck(answer('{"stream":"out-0", "seq":1}'))).toBe(1)
  expect(readAck(answer('{"stream":"out-0","seq":9007199254740991}'))).toBe(9_007_199_254_740_991)
  expect(readAck(answer('{"stream":"out-0","domain":"hub","seq":120}'))).toBe(120)
  expect(readAck(answer('{"stream":"out-0","seq":305,"domain":"hub"}'))).toBe(305)
})

test("P14 a duplicate is looked for, wherever it is said to be", () => {
  for (const [text, duplicateOf] of [
    ['{"stream":"out-0", "seq":3,"duplicate": true}', 3],
    ['{"stream":"out-0","seq":0,"duplicate": true}', 0],
    ['{"stream":"out-0","duplicate":true}', 0],
    ['{"stream":"out-0","seq":0}', 0]
  ] as const) {
    const hitch = readAck(answer(text))
    expect(hitch).toMatchObject({ kind: "look", maybeStored: true, duplicateOf })
    expect(isHitch(hitch as object) && isStoredBefore(hitch as never)).toBe(duplicateOf > 0)
  }
})

test("P14, P15 what an error asks for", () => {
  for (const [text, kind, maybeStored] of [
    [refusal(400, 10_071, "wrong last sequence: 0"), "look", false],
    [refusal(409, 10_158, "duplicate message id is in process"), "again", false],
    [refusal(400, 10_164, "expected last sequence is in process"), "again", false],
    [refusal(503, 10_008, "JetStream system temporarily unavailable"), "again", true],
    [refusal(429, 10_167, "too many requests"), "again", true],
    [refusal(503, 10_077, "maximum messages exceeded"), "full", false],
    [refusal(503, 10_023, "insufficient resources"), "full", false],
    [refusal(404, 10_059, "stream not found"), "nobody", false],
    [refusal(400, 10_054, "message size exceeds maximum allowed"), "refused", false],
    [refusal(400, 10_109, "invalid operation on sealed stream"), "refused", false],
    ["what is this", "again", true],
    ["{}", "look", true]
  ] as const) {
    expect([text, readAck(answer(text))]).toMatchObject([text, { kind, maybeStored }])
  }
  expect(readAck(answer("", 503))).toMatchObject({ kind: "nobody", maybeStored: false })
  expect(readAck(answer("", 408))).toMatchObject({ kind: "again", maybeStored: true })
})

test("P15 an error names the fault, and says whether the message may be stored", () => {
  const full = hitchError("out-0", readAck(answer(refusal(503, 10_077, "maximum messages exceeded"))) as never)
  expect([full.code, full.message]).toEqual(["storage-full", expect.stringContaining("maximum messages exceeded")])
  const lost = hitchError("out-0", { kind: "look", maybeStored: true, reason: "no answer in time" })
  expect([lost.code, lost.message]).toEqual(["unreachable", expect.stringContaining("may have been stored all the same")])
  const refused = hitchError("out-0", readAck(answer(refusal(400, 10_054, "message size exceeds maximum allowed"))) as never)
  expect(refused.message).toContain("It was not stored")
})
