/** A payment as it comes in, and an alert as it goes out. */
import { avro } from "keyfold/codecs/avro"

export interface Payment {
  readonly id: string
  readonly account: string
  readonly card: string
  readonly merchant: string
  readonly amount: number
  /** When, in milliseconds since the epoch. */
  readonly at: number
}

/**
 * Payments travel as Avro, each with the fingerprint of this schema. To change it, put what it was into `older`: payments that are still in
 * the topic are then read as the new kind. A new field needs a `default`, a renamed one `aliases`.
 */
export const paymentCodec = avro<Payment>({
  type: "record",
  name: "Payment",
  namespace: "com.example.fraud",
  fields: [
    { name: "id", type: "string" },
    { name: "account", type: "string" },
    { name: "card", type: "string" },
    { name: "merchant", type: "string" },
    { name: "amount", type: "double" },
    { name: "at", type: { type: "long", logicalType: "timestamp-millis" } }
  ]
})

export interface Alert {
  readonly rule: "small-then-large" | "velocity"
  readonly account: string
  readonly card: string
  /** The payment that gave rise to it. */
  readonly payment: string
  readonly amount: number
  readonly at: number
  /** For the person who decides. */
  readonly reason: string
}

export const alertFor = (rule: Alert["rule"], { id, account, card, amount, at }: Payment, reason: string): Alert => ({
  rule,
  account,
  card,
  payment: id,
  amount,
  at,
  reason
})

export const money = (amount: number): string => amount.toFixed(2)
