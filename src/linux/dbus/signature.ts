import { ProtocolError } from '../../errors.ts'

/** A value of any type at all, with the signature that says which. */
export interface Variant {
  readonly signature: string
  readonly value: Value
}

/** A value of D-Bus: `ay` is a Buffer when it was read, structs and dictionary entries are lists. */
export type Value = number | bigint | string | boolean | Uint8Array | Variant | readonly Value[]

/** Longest signature (D-Bus specification, "Valid Signatures"). */
const maxLength = 255
/** Deepest nesting; the specification allows 32 of arrays and 32 of structs. */
const maxDepth = 64

/** Alignment of values in bytes, by the first letter of their type (D-Bus specification, "Marshaling"). */
const alignments: Readonly<Record<string, number>> = {
  ...{ y: 1, g: 1, v: 1, n: 2, q: 2, b: 4, i: 4, u: 4, s: 4, o: 4, a: 4, h: 4, x: 8, t: 8, d: 8, '(': 8, '{': 8 },
}

/** Alignment of a type. */
export function alignmentOf(type: string): number {
  return alignments[type[0] ?? ''] ?? 1
}

/** Splits a signature into complete types. @throws ProtocolError for what is none. */
export function typesOf(signature: string): readonly string[] {
  if (signature.length > maxLength) throw malformed(signature)
  const types: string[] = []
  for (let at = 0; at < signature.length; ) {
    const end = endOf(signature, at, 0)
    types.push(signature.slice(at, end))
    at = end
  }
  return types
}

function endOf(signature: string, at: number, depth: number): number {
  const letter = signature[at] ?? ''
  if (depth > maxDepth || alignments[letter] === undefined) throw malformed(signature)
  if (letter === 'a') return endOf(signature, at + 1, depth + 1)
  if (letter !== '(' && letter !== '{') return at + 1
  const close = letter === '(' ? ')' : '}'
  let next = at + 1
  do next = endOf(signature, next, depth + 1)
  while (signature[next] !== close)
  return next + 1
}

function malformed(signature: string): ProtocolError {
  return new ProtocolError('D-Bus', `${JSON.stringify(signature.slice(0, maxLength))} is no signature`)
}
