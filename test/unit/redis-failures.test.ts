// Goal: no secret of Redis' gets into an error through what Redis says.
import { expect, test } from "vitest"
import { redisFailure, withoutArguments } from "../../src/runtime/redis-failures.ts"

const said = "ERR unknown command 'AUTH', with args beginning with: 'worker' 'hunter2' "

test("what Redis repeats of a command's arguments is left out", () => {
  expect(withoutArguments(said)).toBe("ERR unknown command 'AUTH'")
  const reply = Object.assign(new Error(said), { name: "ReplyError" })
  expect(() => redisFailure("Redis at r:6379", reply, "AUTH")).toThrow(/^(?!.*hunter2).*unknown command/s)
  expect(redisFailure("Redis at r:6379", new Error(said), "AUTH").message).not.toContain("hunter2")
})
