/** What spans and their attributes are called: OpenTelemetry's messaging conventions where they have a word, else `keyfold.`. */

export const spanNames = {
  process: (topics: string): string => `process ${topics}`,
  publish: (topic: string): string => `publish ${topic}`
}

export const attributeNames = {
  system: "messaging.system",
  operationName: "messaging.operation.name",
  operationType: "messaging.operation.type",
  destination: "messaging.destination.name",
  destinationPartition: "messaging.destination.partition.id",
  messages: "messaging.batch.message_count",
  consumerGroup: "messaging.consumer.group.name",
  client: "messaging.client.id",
  error: "error.type",
  job: "keyfold.job",
  query: "keyfold.query",
  stage: "keyfold.stage",
  partition: "keyfold.partition",
  turn: "keyfold.turn",
  producers: "keyfold.producers",
  events: "keyfold.events",
  keys: "keyfold.keys",
  timeouts: "keyfold.timeouts",
  late: "keyfold.late",
  failed: "keyfold.failed",
  outputs: "keyfold.outputs",
  deadLetters: "keyfold.dead_letters",
  discarded: "keyfold.discarded",
  link: "keyfold.link"
} as const

/** The values of `keyfold.link`: why a turn is linked to a span. */
export const linkKinds = { producer: "producer", armed: "armed", caused: "caused" } as const

/** `error.type` of what is no KeyfoldError, by the conventions. */
export const otherError = "_OTHER"
