// Goal: what is in memory stays within its bounds, and holds on to nothing else.
// Method: the residents and the state handle by themselves; who stays and who leaves is compared with a list.
import { json } from "keyfold/codecs/json"
import { describe, expect, test } from "vitest"
import { Residents, residentOverheadBytes } from "../../src/activation/residents.ts"
import { StateHandle } from "../../src/activation/state-handle.ts"
import { noTimeout } from "../../src/model/resident.ts"

const bounds = { countMax: 3, bytesMax: Number.MAX_SAFE_INTEGER }
const state = new Uint8Array([1])

const filled = (keys: readonly string[], limits = bounds): Residents => {
  const residents = new Residents(limits)
  for (const key of keys) residents.admit(key, state, noTimeout)
  return residents
}

const present = (residents: Residents, keys: readonly string[]): readonly string[] => keys.filter((key) => residents.get(key) !== undefined)

describe("eviction", () => {
  test("who came first leaves first", () => {
    const residents = filled(["a", "b", "c", "d", "e"])
    residents.evict(1, [])
    expect(present(residents, ["a", "b", "c", "d", "e"])).toEqual(["c", "d", "e"])
  })

  test("who was touched in the turn stays before who was not", () => {
    const residents = filled(["a", "b", "c", "d", "e"])
    for (const key of ["a", "b"]) (residents.get(key) as { turn: number }).turn = 7
    residents.evict(7, [])
    expect(present(residents, ["a", "b", "c", "d", "e"])).toEqual(["a", "b", "e"])
  })

  test("the bound holds though every key was touched in the turn", () => {
    const residents = filled(["a", "b", "c", "d", "e"])
    for (const key of ["a", "b", "c", "d", "e"]) (residents.get(key) as { turn: number }).turn = 7
    residents.evict(7, [])
    expect(residents.size).toBe(3)
  })

  test("a key without state and timeout leaves though there is room", () => {
    const residents = filled(["a"])
    const gone = residents.admit("gone", undefined, noTimeout)
    residents.evict(1, [gone])
    expect(present(residents, ["a", "gone"])).toEqual(["a"])
  })

  test("bytes count as well as keys", () => {
    const residents = filled(["a", "b", "c"], { countMax: 100, bytesMax: 2 * (residentOverheadBytes + 2) })
    residents.evict(1, [])
    expect(present(residents, ["a", "b", "c"])).toEqual(["b", "c"])
    expect(residents.bytes).toBe(2 * (residentOverheadBytes + 2))
  })

  test("the count of bytes follows changes and ends at 0", () => {
    const residents = filled(["a"])
    const resident = residents.get("a") as NonNullable<ReturnType<Residents["get"]>>
    residents.change(resident, { bytes: new Uint8Array(500), timeoutAt: 5 })
    expect(residents.bytes).toBe(residentOverheadBytes + 1 + 500)
    residents.change(resident, { bytes: undefined, timeoutAt: undefined })
    residents.evict(1, [resident])
    expect(residents.bytes).toBe(0)
  })
})

test("a state in memory owns its bytes: it does not keep the codec's shared buffer alive", () => {
  const handle = new StateHandle(json<{ readonly n: number }>(), "none")
  handle.startTurn({ nowMs: 0, watermarkMs: undefined })
  handle.begin(undefined, false)
  handle.update({ n: 1 })
  const { bytes } = handle.finish()
  expect(bytes?.buffer.byteLength).toBe(bytes?.byteLength)
})

test("a state that is used after its call has ended says so", () => {
  const handle = new StateHandle(json<number>(), "none")
  handle.startTurn({ nowMs: 0, watermarkMs: undefined })
  handle.begin(undefined, false)
  handle.finish()
  expect(() => handle.update(1)).toThrow(/after its call had ended/)
})
