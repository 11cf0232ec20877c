/**
 * A key's value in Redis' hash `state`, as bytes (docs/journal-format.md). Not Avro, as the entries are: there is one of these per key that is
 * loaded, and two fields at fixed places are read in a third of the time.
 */
import type { KeyText } from "../model/key.ts"
import type { KeyImage } from "../model/turn.ts"
import { Damage, Newer, reading } from "./damage.ts"

/** The form of a value: which of the two it has. Higher ones are for states that change by parts. */
const [hasState, hasTimeout] = [1, 2]
const timeoutBytes = 8

/** Only keys that have something are there (J6). Hot path. */
export const encodeValue = ({ bytes, timeoutAt }: KeyImage): Buffer => {
  const size = 1 + (timeoutAt === undefined ? 0 : timeoutBytes) + (bytes?.byteLength ?? 0)
  const value = Buffer.allocUnsafe(size)
  let at = value.writeUInt8((bytes === undefined ? 0 : hasState) | (timeoutAt === undefined ? 0 : hasTimeout))
  if (timeoutAt !== undefined) at = value.writeDoubleLE(timeoutAt, at)
  if (bytes !== undefined) value.set(bytes, at)
  return value
}

/** Its bytes are a copy. Hot path. */
export const decodeValue = (keyText: KeyText, value: Buffer, what: string): KeyImage =>
  reading(what, () => {
    const form = value[0]
    if (form === undefined) throw new Damage("it is empty")
    if (form > (hasState | hasTimeout)) throw new Newer(`the form ${form}`)
    if (form === 0) throw new Damage("it has neither a state nor a timeout")
    let at = 1
    let timeoutAt: number | undefined
    if ((form & hasTimeout) !== 0) {
      if (value.length < at + timeoutBytes) throw new Damage("it is cut off")
      timeoutAt = value.readDoubleLE(at)
      if (Number.isNaN(timeoutAt)) throw new Damage("its timeout is no time")
      at += timeoutBytes
    }
    if (form === hasTimeout && value.length > at) throw new Damage("it goes on after its end")
    return { keyText, bytes: (form & hasState) === 0 ? undefined : new Uint8Array(value.subarray(at)), timeoutAt }
  })

/** Whether there is a state, or only a timeout. */
export const valueHasState = (value: Buffer): boolean => ((value[0] ?? 0) & hasState) !== 0
