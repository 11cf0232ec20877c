/** Asks a port over a bare connection, without a client library: servers of any configuration say something at once. */
import { connect } from "node:net"

/** What came until `isWhole` was content, the connection ended, or time was up; "" when nobody listens. */
export const answerOf = (port: number, question: string, isWhole: (text: string) => boolean, timeoutMs = 2_000): Promise<string> =>
  new Promise((answer) => {
    let text = ""
    const socket = connect(port, "127.0.0.1")
    const finish = (): void => {
      clearTimeout(timer)
      socket.destroy()
      answer(text)
    }
    const timer = setTimeout(finish, timeoutMs)
    socket.on("connect", () => question !== "" && socket.write(question))
    socket.on("data", (chunk) => {
      text += String(chunk)
      if (isWhole(text)) finish()
    })
    socket.on("error", finish)
    socket.on("close", finish)
  })
