/** Asks a Redis without a client library: one command on a connection of its own. */
import { answerOf } from "./answer.ts"

/** The bare answer: "+OK\r\n", "-ERR ...\r\n", ":1\r\n" or "$<length>\r\n...\r\n"; "" when nobody answers. */
export const redisAnswer = (port: number, command: string): Promise<string> => answerOf(port, `${command}\r\n`, isWhole)

/** The lines of INFO; empty when it does not answer, or asks for a password. */
export const redisInfo = async (port: number): Promise<ReadonlyMap<string, string>> => {
  const lines = (await redisAnswer(port, "INFO")).split("\r\n").map((line) => /^(\w+):(.*)$/.exec(line))
  return new Map(lines.flatMap((found) => (found === null ? [] : [[found[1] as string, found[2] as string]])))
}

const isWhole = (text: string): boolean => {
  const header = /^\$(\d+)\r\n/.exec(text)
  return header === null ? /^[-+:].*\r\n$/.test(text) : Buffer.byteLength(text) >= header[0].length + Number(header[1]) + 2
}
