import { type JsonLimits, parseJson } from './json.ts'

/**
 * Like {@link parseJson}, but integers that a JavaScript number can't hold exactly become a `bigint`.
 * A runtime's documents have such numbers: RLIM_INFINITY is 2^64 - 1.
 * @throws SpecError naming `document`
 */
export function parseJsonInt64(raw: Uint8Array, document: string, limits?: JsonLimits): unknown {
  const value = parseJson(raw, document, limits)
  const text = new TextDecoder().decode(raw)
  if (!/\d{16}/.test(text)) return value
  // Random, so that no string of the document can pass for a number.
  const mark = crypto.randomUUID()
  const marked = text.replace(stringOrLongInteger, (part) =>
    part.startsWith('"') || Number.isSafeInteger(Number(part)) ? part : `"${mark}${part}"`,
  )
  return JSON.parse(marked, (_, member: unknown) =>
    typeof member === 'string' && member.startsWith(mark) ? BigInt(member.slice(mark.length)) : member,
  )
}

/** Like JSON.stringify; a `bigint` becomes a number with all its digits. */
export function stringifyJsonInt64(value: unknown, space?: number): string {
  try {
    // Most have none, and a function that is asked for each member takes five times as long.
    return JSON.stringify(value, undefined, space)
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
  }
  let mark: string | undefined
  const text = JSON.stringify(
    value,
    (_, member: unknown) => {
      if (typeof member !== 'bigint') return member
      mark ??= crypto.randomUUID()
      return `${mark}${member}`
    },
    space,
  )
  return mark === undefined ? text : text.replace(new RegExp(`"${mark}(-?\\d+)"`, 'g'), '$1')
}

/** Strings are matched to be passed over; integers of fewer digits are safe. */
const stringOrLongInteger = /"(?:[^"\\]+|\\.)*"|(?<![\d.eE+-])-?\d{16,}(?![\d.eE])/g
