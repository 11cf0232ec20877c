// Goal: the supervisor of `--workers N` hands its words, signals and ends on as it says, before any process is started.
// Method: rows for its pure parts; test/live/workers.test.ts has the processes.
import { describe, expect, test } from "vitest"
import type { ExitCode } from "../../src/cli/refusal.ts"
import { restartMsAfter, withoutWorkers, worstOf } from "../../src/cli/workers.ts"

describe("a worker gets the words of its supervisor", () => {
  const rows: readonly (readonly [words: string, left: string])[] = [
    ["run job.ts --workers 4", "run job.ts"],
    ["run --workers 4 job.ts --job a", "run job.ts --job a"],
    ["--workers=4 run job.ts", "run job.ts"],
    ["run job.ts --job 4 --workers 4", "run job.ts --job 4"],
    ["run --workers 2 -- --workers 4", "run -- --workers 4"],
    ["run job.ts", "run job.ts"]
  ]
  for (const [words, left] of rows) test(words, () => expect(withoutWorkers(words.split(" "))).toEqual(left.split(" ")))
})

describe("the worst exit code of the workers is the command's", () => {
  const rows: readonly (readonly [codes: readonly ExitCode[], worst: ExitCode])[] = [
    [[0, 0, 0], 0],
    [[0, 1, 0], 1],
    [[1, 2, 0], 2],
    [[0, 130], 130],
    [[143, 130], 143],
    [[143, 1], 1],
    [[], 0]
  ]
  for (const [codes, worst] of rows) test(`${codes} come to ${worst}`, () => expect(worstOf(codes)).toBe(worst))
})

test("a worker that crashes again and again waits longer each time, and never longer than 30 s", () => {
  expect([1, 2, 3, 4, 5, 6, 7, 8, 100].map(restartMsAfter)).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000])
})
