/** Real bytes, made wrong: bits, ends, lengths, places, characters. From a seed alone. */
import { oneOf, type Random, randomBytes, upTo } from "../fixtures/avro-schemas.ts"

/** What a target may be given at most: what reads in linear time should show it. */
const inputBytesMax = 65_536
const mutationsMax = 6
const randomShare = 0.05
const randomBytesMax = 200

export interface Material {
  readonly corpus: readonly Buffer[]
  /** What the format has a meaning for. */
  readonly words: readonly string[]
  /** Whether everything has its place in it, as in a file of pages: what is moved is seen at once, and nothing behind it is tried. */
  readonly isPlaced: boolean
}

/** The next input: now and then nothing but noise, else a real one with some mutations. */
export const nextInput = (random: Random, { corpus, words, isPlaced }: Material): Buffer => {
  if (corpus.length === 0 || random() < randomShare) return Buffer.from(randomBytes(random, upTo(random, randomBytesMax)))
  let bytes: Buffer = Buffer.from(oneOf(random, corpus))
  const keepsPlaces = isPlaced && random() < placedShare
  const chosen = keepsPlaces ? mutationsInPlace : mutations
  const count = 1 + Math.floor(mutationsMax * random() ** 3)
  for (let done = 0; done < count; done++) {
    const mutation = words.length > 0 && random() < wordShare ? putWord : oneOf(random, chosen)
    bytes = mutation({ random, bytes, corpus, words, keepsPlaces })
  }
  return bytes.length > inputBytesMax + largest(corpus) ? bytes.subarray(0, inputBytesMax) : bytes
}

const wordShare = 0.25
const placedShare = 0.9

const largest = (corpus: readonly Buffer[]): number => Math.max(...corpus.map(({ length }) => length))

interface Mutating extends Omit<Material, "isPlaced"> {
  readonly random: Random
  readonly bytes: Buffer
  readonly keepsPlaces: boolean
}

type Mutation = (of: Mutating) => Buffer

const flipBit: Mutation = ({ random, bytes }) => changed(bytes, somePlace(random, bytes), (byte) => byte ^ (1 << upTo(random, 8)))

/** Rather where something is than in the zeros between. */
const somePlace = (random: Random, bytes: Buffer): number => {
  let at = upTo(random, bytes.length)
  for (let tries = 0; tries < 30 && bytes[at] === 0; tries++) at = upTo(random, bytes.length)
  return at
}

const setByte: Mutation = ({ random, bytes }) =>
  changed(bytes, somePlace(random, bytes), () => oneOf(random, [0, 1, 2, 3, 4, 0x7f, 0x80, 0xfe, 0xff, upTo(random, 256)]))

const changed = (bytes: Buffer, at: number, change: (byte: number) => number): Buffer => {
  const byte = bytes[at]
  if (byte !== undefined) bytes[at] = change(byte)
  return bytes
}

const cutEnd: Mutation = ({ random, bytes }) => bytes.subarray(0, upTo(random, bytes.length + 1))

const cutStart: Mutation = ({ random, bytes }) => Buffer.from(bytes.subarray(upTo(random, Math.min(16, bytes.length + 1))))

const cutMiddle: Mutation = ({ random, bytes }) => {
  const [from, to] = range(random, bytes.length)
  return spliced(bytes, from, to, nothing)
}

const nothing = Buffer.alloc(0)

/** Short ones more often than long ones. */
const range = (random: Random, length: number): readonly [from: number, to: number] => {
  const from = upTo(random, length + 1)
  const longest = random() < 0.5 ? 16 : length
  return [from, Math.min(length, from + upTo(random, longest + 1))]
}

const spliced = (bytes: Buffer, from: number, to: number, between: Uint8Array): Buffer =>
  Buffer.concat([bytes.subarray(0, from), between, bytes.subarray(to)])

/** A part, many times over. */
const repeatPart: Mutation = ({ random, bytes }) => {
  const [from, to] = range(random, bytes.length)
  const times = Math.min(2 ** upTo(random, 12), Math.floor(inputBytesMax / Math.max(1, to - from)))
  return spliced(bytes, to, to, Buffer.concat(new Array<Buffer>(times).fill(bytes.subarray(from, to))))
}

/** A part of itself or of another, somewhere else. */
const transplant: Mutation = ({ random, bytes, corpus, keepsPlaces }) => {
  const donor = random() < 0.5 ? bytes : oneOf(random, corpus)
  const [from, to] = range(random, donor.length)
  const at = upTo(random, bytes.length + 1)
  return spliced(
    bytes,
    at,
    !keepsPlaces && random() < 0.5 ? at : Math.min(bytes.length, at + to - from),
    Buffer.from(donor.subarray(from, to))
  )
}

const addNoise: Mutation = ({ random, bytes }) => {
  const at = upTo(random, bytes.length + 1)
  return spliced(bytes, at, at, randomBytes(random, 1 + upTo(random, 8)))
}

const putWord: Mutation = ({ random, bytes, words, keepsPlaces }) => {
  const at = somePlace(random, bytes)
  const word = Buffer.from(oneOf(random, words))
  return spliced(bytes, at, !keepsPlaces && random() < 0.5 ? at : Math.min(bytes.length, at + word.length), word)
}

/** JSON stays JSON, but for one value in it: gone, or another one. */
const putValue: Mutation = ({ random, bytes }) => {
  const places: { readonly of: Record<string, unknown>; readonly name: string }[] = []
  const collect = (value: unknown): void => {
    if (typeof value !== "object" || value === null) return
    for (const name of Object.keys(value)) {
      places.push({ of: value as Record<string, unknown>, name })
      collect((value as Record<string, unknown>)[name])
    }
  }
  const whole = jsonIn(bytes)
  collect(whole)
  if (places.length === 0) return bytes
  const { of, name } = oneOf(random, places)
  if (random() < 0.2) delete of[name]
  else of[name] = oneOf<unknown>(random, [...jsonValues, oneOf(random, places).of])
  try {
    return Buffer.from(JSON.stringify(whole).replaceAll('"1e999"', "1e999"))
  } catch {
    return bytes // it would contain itself
  }
}

const jsonIn = (bytes: Buffer): unknown => {
  try {
    return JSON.parse(bytes.toString())
  } catch {
    return undefined
  }
}

const jsonValues: readonly unknown[] = [
  null,
  true,
  0,
  -1,
  0.5,
  2 ** 31,
  2 ** 53,
  1e300,
  "1e999",
  "",
  "x",
  "__proto__",
  [],
  [null],
  [[[]]],
  {},
  { toString: 1, length: 1e9 }
]

/** A number in digits becomes another one. */
const putNumber: Mutation = ({ random, bytes }) => {
  const numbers = [...bytes.toString("latin1").matchAll(/-?\d+(\.\d+)?/g)]
  if (numbers.length === 0) return bytes
  const { index, 0: digits } = oneOf(random, numbers)
  return spliced(bytes, index, index + digits.length, Buffer.from(oneOf(random, numberTexts)))
}

const numberTexts = ["0", "-1", "1e999", "-1e999", "1.5", "2147483648", "4294967295", "9007199254740993", "1e308", "null", "NaN", ""]

/** What claims that very much follows, in the ways that lengths and counts are written. */
const putLength: Mutation = ({ random, bytes, keepsPlaces }) => {
  const length = Buffer.from(oneOf(random, lengths), "hex")
  const at = somePlace(random, bytes)
  return spliced(bytes, at, keepsPlaces || random() < 0.8 ? Math.min(bytes.length, at + length.length) : at, length)
}

const lengths = [
  // little- and big-endian, 16, 32 and 64 bits; also "none", and one below it
  ...["ffff", "7fff", "ffffffff", "feffffff", "ffffff7f", "7fffffff", "00000080", "00000040", "00000001", "ffffffffffffffff"],
  // variable length, zigzag: 2^20, 2^24, 2^27, 2^31, 2^40, 2^53, -1, -2^27, and one that goes on
  ...["80808001", "8080801000", "8080808001", "8080808010", "808080808040", "8080808080808020", "01", "ffffffff7f"],
  "ffffffffffffffffffff",
  // doubles: NaN, infinities, the largest
  ...["000000000000f87f", "000000000000f07f", "000000000000f0ff", "ffffffffffffef7f"]
]

/** What is no UTF-8: a lone continuation, an overlong form, a surrogate, a character beyond the last, one that is cut off. */
const spoilText: Mutation = ({ random, bytes }) => {
  const at = upTo(random, bytes.length + 1)
  return spliced(bytes, at, at, Buffer.from(oneOf(random, ["80", "c080", "eda080", "f4908080", "f09f98", "00", "e280a8", "efbbbf"]), "hex"))
}

const mutations: readonly Mutation[] = [
  ...[flipBit, flipBit, setByte, setByte, cutEnd, cutStart, cutMiddle],
  ...[repeatPart, transplant, addNoise, putNumber, putValue, putValue, putValue, putLength, putLength, spoilText]
]

const mutationsInPlace: readonly Mutation[] = [flipBit, setByte, putLength, transplant]
