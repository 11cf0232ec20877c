/**
 * Topics, foreign streams and custom sinks, as values. Declaring one does nothing: a runtime creates the topic when the first job,
 * publisher or reader needs it, and faults (a bad name, partitions out of range) are named when a job is checked.
 */
import type { Codec } from "./codec.ts"
import type { KeyOf } from "./key.ts"

/** Outputs are only read, so a literal (readonly) array may go where a mutable one is declared. */
export type Frozen<T> = T extends string | number | boolean | bigint | null | undefined | Date | Uint8Array
  ? T
  : T extends readonly unknown[]
    ? number extends T["length"]
      ? readonly Frozen<T[number]>[]
      : { readonly [I in keyof T]: Frozen<T[I]> }
    : T extends object
      ? { readonly [F in keyof T]: Frozen<T[F]> }
      : T

declare const yields: unique symbol
declare const accepts: unique symbol

/** The key type of a source whose records have no key: only `groupByKey(fn)` groups them. */
export interface Unkeyed {
  readonly unkeyed: never
}

/** Something that a job can read. Made by `topic()` or `stream()`. */
export interface Source<out T, out K> {
  readonly name: string
  readonly [yields]: () => readonly [T, K]
}

/** Something that a job can write to. Made by `topic()` or `foreachTurn()`. */
export interface Sink<in T> {
  readonly name: string
  readonly [accepts]: (value: T) => void
}

/** A named, partitioned, durable log of values, each with a key. */
export interface Topic<T, K = unknown> extends Source<T, K>, Sink<Frozen<T>> {
  readonly codec: Codec<T>
  /** As declared, or the default of 16. A topic that exists keeps the count it was created with. */
  readonly partitions: number
  readonly key: (value: T) => K
}

export const partitionsDefault = 16
export const partitionsMax = 1024

export interface TopicDefinition {
  readonly kind: "topic"
  readonly name: string
  readonly codec: Codec<unknown>
  readonly key: (value: unknown) => unknown
  /** As declared; undefined: whatever the topic was created with, or its role's default. */
  readonly partitions: number | undefined
}

export interface StreamDefinition {
  readonly kind: "stream"
  readonly name: string
  readonly codec: Codec<unknown>
  readonly subjects: readonly string[]
}

export interface ForeachDefinition {
  readonly kind: "foreach"
  readonly name: string
  readonly write: (values: readonly unknown[], turn: { readonly id: string; readonly partition: number }) => Promise<void>
}

export type Definition = TopicDefinition | StreamDefinition | ForeachDefinition

const definition = Symbol("keyfold.definition")

/**
 * Declares a topic.
 *
 * `partitions` (1 to 1024, default 16) is fixed when the topic is first created, as is its hash `fnv1a32`; late and dead-letter topics
 * default to 1. A declaration that names a count refuses a topic with another (`topic-mismatch`); one that names none takes the topic's.
 */
export function topic<T, const K>(
  name: string,
  options: { readonly codec: Codec<T>; readonly key: (value: T) => K & KeyOf<K>; readonly partitions?: number }
): Topic<T, K> {
  // Without options it is a topic with faults, which the job that uses it names.
  const { codec, key, partitions } = options ?? {}
  const defined: TopicDefinition = {
    kind: "topic",
    name,
    codec: codec as Codec<unknown>,
    key: key as (value: unknown) => unknown,
    partitions
  }
  return declared({ name, codec, key, partitions: partitions ?? partitionsDefault }, defined) as unknown as Topic<T, K>
}

/**
 * Declares a NATS stream that keyfold did not create, read as it is; its records have no key. `subjects` names the ones to read
 * (default: all). Only the clustered runtime and the test harness can read it.
 */
export function stream<T>(options: {
  readonly stream: string
  readonly subjects?: readonly string[]
  readonly codec: Codec<T>
}): Source<T, Unkeyed> {
  const { stream: name, subjects = [], codec } = options
  return declared({ name }, { kind: "stream", name, codec: codec as Codec<unknown>, subjects }) as unknown as Source<T, Unkeyed>
}

/**
 * A sink of your own. `write` gets a turn's values after their commit, in order, one turn of a partition at a time; it is called again
 * with the same `turn.id` until it succeeds once, also after a crash: at least once, exactly once when it remembers the ids.
 */
export function foreachTurn<T>(
  name: string,
  write: (values: readonly T[], turn: { readonly id: string; readonly partition: number }) => Promise<void>
): Sink<T> {
  return declared({ name }, { kind: "foreach", name, write: write as ForeachDefinition["write"] }) as unknown as Sink<T>
}

/** What a source or sink was made of; undefined for something that keyfold did not make. */
export const definitionOf = (declaration: unknown): Definition | undefined =>
  typeof declaration === "object" && declaration !== null ? (declaration as { readonly [definition]?: Definition })[definition] : undefined

const declared = <T extends object>(surface: T, defined: Definition): T => Object.freeze(Object.assign(surface, { [definition]: defined }))
