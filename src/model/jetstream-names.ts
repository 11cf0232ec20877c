/**
 * How topics are named on NATS. Partition q of the topic T is the stream `T-q`; publishers write to its subject `T.q`, a job's writer w to
 * `T.q.w`, so that the last message of a writer can be asked for (P4, P14). A topic's name has no dot, space, `*` or `>` (plan-names.ts)
 * and the partition stands behind the last dash, so no two topics share a stream or a subject.
 */
import type { TopicPartition } from "./record.ts"

/** A writer's own number of a message (PROTOCOL, Names). */
export const numberHeader = "kf-n"

/** The server drops a second message with the same one within the duplicate window (P12). */
export const messageIdHeader = "Nats-Msg-Id"

/** The server's default, and long enough for a publisher to send again after an outage. */
export const duplicateWindowMs = 120_000

/** Bytes that a stream's and a consumer's name may have on every server. */
export const streamNameLengthMax = 255

export const streamOf = ({ topic, partition }: TopicPartition): string => `${topic}-${partition}`

/** Where publishers without an identity write. */
export const publisherSubject = ({ topic, partition }: TopicPartition): string => `${topic}.${partition}`

/** Where one writer's messages are, and nobody else's. `writer` is one token: letters, digits, - and _. */
export const writerSubject = ({ topic, partition }: TopicPartition, writer: string): string => `${topic}.${partition}.${writer}`

/** All that a partition's stream takes. */
export const streamSubjects = (of: TopicPartition): readonly string[] => [publisherSubject(of), writerSubject(of, "*")]

/** The writer that a message's subject names; undefined for one of a publisher, or of a foreign stream. */
export const writerOfSubject = (subject: string): string | undefined => {
  const first = subject.indexOf(".")
  const second = first < 0 ? -1 : subject.indexOf(".", first + 1)
  return second < 0 || subject.indexOf(".", second + 1) >= 0 ? undefined : subject.slice(second + 1)
}

/** `Nats-Msg-Id` of an output. */
export const messageId = (writer: string, number: number): string => `${writer}.${number}`

/** Whether a header is between keyfold, the client and the server, and none of the record's own. `name` in lower case. */
export const isInternalHeader = (name: string): boolean => name.startsWith("kf-") || name.startsWith("nats-")
