/**
 * Turns values into bytes and back. Both directions throw on what they cannot do; keyfold says which record or state it was. The bytes
 * that `encode` answers may be used again in its next call: keyfold copies them. Those that `decode` gets are its own to keep.
 */
export interface Codec<T> {
  /** IANA media type, for people and foreign readers. */
  readonly contentType: string
  /**
   * Changes when stored bytes can no longer be read: compared with what the journal was written with. A codec that also reads what others
   * wrote appends their fingerprints, each after a space: "avro/2 avro/1" may follow "avro/1".
   */
  readonly fingerprint: string
  readonly encode: (value: T) => Uint8Array
  /** Throws on bytes that are no value: a bad record. */
  readonly decode: (bytes: Uint8Array) => T
}

/** J8: whether a codec reads whatever the stored fingerprint stands for, which may be several codecs. */
export const readsAllOf = (declared: string, stored: string): boolean => {
  if (declared === stored) return true
  const readable = new Set(declared.split(" "))
  return stored.split(" ").every((each) => readable.has(each))
}
