// Goal: lines come out of a stream of bytes whole and untouched, however it was cut into chunks, and no line takes more memory than allowed.
// Method: rows of texts with their lines; the same texts cut at every byte; random texts against String.split. Rerun with SEED=<n>.
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { foreignFormat } from "../../src/cli/input-format.ts"
import { type Line, LineSplitter, lineBytesMax } from "../../src/cli/lines.ts"
import { payloadBytesMax } from "../../src/options.ts"

const seed = Number(process.env["SEED"] ?? 1)

const split = (chunks: readonly Uint8Array[], bytesMax?: number): Line[] => {
  const splitter = new LineSplitter(bytesMax)
  return [...chunks.flatMap((chunk) => splitter.push(chunk)), ...splitter.end()]
}

const texts = (lines: readonly Line[]): string[] => lines.map(({ bytes }) => Buffer.from(bytes).toString("utf8"))

const rows: readonly (readonly [what: string, text: string, lines: readonly string[]])[] = [
  ["nothing", "", []],
  ["one line", "a\n", ["a"]],
  ["a last line without its end", "a\nb", ["a", "b"]],
  ["CRLF", "a\r\nb\r\n", ["a", "b"]],
  ["a CR inside a line stays", "a\rb\n", ["a\rb"]],
  ["a last CR without LF", "a\r", ["a"]],
  ["blank lines", "\n\na\n \t\n\r\nb\n\n", ["a", "b"]],
  ["a byte order mark", "\ufeffa\n\ufeffb\n", ["a", "\ufeffb"]],
  ["a byte order mark and nothing else", "\ufeff", []],
  ["a byte order mark before a blank line", "\ufeff\r\na", ["a"]],
  ["characters of several bytes", "é€😀\n😀", ["é€😀", "😀"]],
  ["white space around a value is the line's", "  1 \n", ["  1 "]]
]

describe("lines", () => {
  for (const [what, text, lines] of rows) {
    test(what, () => expect(texts(split([Buffer.from(text)]))).toEqual(lines))

    test(`${what}, cut at every byte`, () => {
      const bytes = Buffer.from(text)
      for (let at = 0; at <= bytes.length; at++) expect(texts(split([bytes.subarray(0, at), bytes.subarray(at)]))).toEqual(lines)
      expect(texts(split(Array.from(bytes, (_, index) => bytes.subarray(index, index + 1))))).toEqual(lines)
    })
  }

  test(`any text in any chunks (SEED=${seed})`, () => {
    const piece = fc.constantFrom("a", "\n", "\r", "\r\n", " ", "{}", "é", "😀", "\u0000")
    const input = fc.tuple(
      fc.array(piece).map((pieces) => Buffer.from(`x${pieces.join("")}`)),
      fc.array(fc.nat(60))
    )
    fc.assert(
      fc.property(input, ([bytes, cuts]) => {
        const places = [0, ...cuts.filter((cut) => cut < bytes.length).toSorted((a, b) => a - b), bytes.length]
        const chunks = places.slice(1).map((end, index) => bytes.subarray(places[index], end))
        const wanted = bytes
          .toString("utf8")
          .split("\n")
          .map((line) => line.replace(/\r$/, ""))
          .filter((line) => /[^ \t\r]/.test(line))
        expect(texts(split(chunks))).toEqual(wanted)
      }),
      { seed, numRuns: 2_000 }
    )
  })

  test("bytes that are not UTF-8 arrive as they are", () => {
    expect(split([Uint8Array.of(0xff, 0xfe, 0x0a, 0x80)]).map(({ bytes }) => [...bytes])).toEqual([[0xff, 0xfe], [0x80]])
  })

  test("lines have the numbers that an editor shows", () => {
    expect(split([Buffer.from("a\n\n\nb\nc")]).map(({ number }) => number)).toEqual([1, 4, 5])
  })

  const long: readonly (readonly [text: string, counts: readonly (readonly [kept: number, whole: number])[]])[] = [
    [
      "1234\n12345\n1\n",
      [
        [4, 4],
        [0, 5],
        [1, 1]
      ]
    ],
    [
      "1234\r\n1\n",
      [
        [4, 4],
        [1, 1]
      ]
    ],
    [
      "12345\r\n1\n",
      [
        [0, 6],
        [1, 1]
      ]
    ],
    [
      "123456789\n1",
      [
        [0, 9],
        [1, 1]
      ]
    ],
    [
      "1\n123456789",
      [
        [1, 1],
        [0, 9]
      ]
    ]
  ]
  for (const [text, counts] of long) {
    test(`a line beyond the limit is not kept, the next one is: ${JSON.stringify(text)}`, () => {
      const whole = split([Buffer.from(text)], 4)
      expect(whole.map(({ bytes, byteCount }) => [bytes.length, byteCount])).toEqual(counts)
      const single = split(
        Array.from(Buffer.from(text), (byte) => Uint8Array.of(byte)),
        4
      )
      for (const [index, { bytes }] of single.entries()) expect(bytes.length).toBe(counts[index]?.[0])
    })
  }

  test("the limit is what a record can hold", () => expect(lineBytesMax).toBe(payloadBytesMax))
})

describe("formats that are no lines", () => {
  const formats: readonly (readonly [what: string, bytes: readonly number[], format: string | undefined])[] = [
    ["JSON", [...Buffer.from('{"a":1}')], undefined],
    ["nothing", [], undefined],
    ["UTF-8 with a mark", [0xef, 0xbb, 0xbf, 0x7b], undefined],
    ["broken bytes that begin like a mark", [0xff, 0xfe, 0xfd, 0x0a], undefined],
    ["gzip", [0x1f, 0x8b, 0x08, 0x00], "compressed (gzip)"],
    ["zstd", [0x28, 0xb5, 0x2f, 0xfd], "compressed (zstd)"],
    ["UTF-16, little end first", [0xff, 0xfe, 0x7b, 0x00], "UTF-16"],
    ["UTF-16, big end first", [0xfe, 0xff, 0x00, 0x7b], "UTF-16"]
  ]
  for (const [what, bytes, format] of formats) test(what, () => expect(foreignFormat(Uint8Array.from(bytes))?.what).toBe(format))
})
