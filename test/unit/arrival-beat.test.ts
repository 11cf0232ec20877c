// Goal: partitions that wait for records go on together when records come all the time, and at once when they come after a quiet moment.
// Method: the beat on the real event loop; what is asserted is who goes on with whom, not when.
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { expect, onTestFinished, test } from "vitest"
import { ArrivalBeat } from "../../src/source/arrival-beat.ts"

/** Each call notes in which go of the event loop it came. */
const noting = () => {
  const noted: { readonly who: string; readonly go: number }[] = []
  let go = 0
  let isOpen = false
  const note = (who: string) => () => {
    if (!isOpen) {
      isOpen = true
      go += 1
      queueMicrotask(() => {
        isOpen = false
      })
    }
    noted.push({ who, go })
  }
  return { noted, note }
}

const beating = (): ArrivalBeat => {
  const beat = new ArrivalBeat()
  const fiber = Effect.runFork(beat.run)
  onTestFinished(() => Effect.runPromise(Fiber.interrupt(fiber)))
  return beat
}

const all = (beat: ArrivalBeat): Promise<void> => new Promise((done) => void beat.join(done))

test("who joins before the beat goes on with it, in the order of joining, and once", async () => {
  const { noted, note } = noting()
  const beat = beating()
  beat.join(note("a"))
  beat.join(note("b"))
  await Promise.resolve()
  beat.join(note("c"))
  await all(beat)
  expect(noted).toEqual(["a", "b", "c"].map((who) => ({ who, go: 1 })))
  beat.join(note("d"))
  beat.join(note("e"))
  await all(beat)
  expect(noted.slice(3)).toEqual(["d", "e"].map((who) => ({ who, go: 2 })))
})

test("who joins in a beat waits for the next one, and who leaves is not called", async () => {
  const { noted, note } = noting()
  const beat = beating()
  const first = new Promise<void>((done) => {
    beat.join(() => {
      note("a")()
      beat.join(note("again"))
      const leave = beat.join(note("left"))
      leave()
      done()
    })
  })
  const leave = beat.join(note("left"))
  leave()
  await first
  expect(noted.map(({ who }) => who)).toEqual(["a"])
  await all(beat)
  expect(noted.map(({ who }) => who)).toEqual(["a", "again"])
})
