import { SpecError } from '../errors.ts'
import { quote } from './text.ts'

/** Bounds on a JSON document from outside; beside them the caller bounds its bytes. */
export interface JsonLimits {
  /** Objects and arrays inside one another; default 64. */
  readonly depth?: number
  /** Values in all, members and array items; default 250,000. */
  readonly values?: number
}

/**
 * Parses JSON that follows I-JSON (RFC 7493) as image-spec demands: valid UTF-8 without a byte order
 * mark, no member name twice in one object. Programs disagree on which of two equal names counts, so
 * that a document could mean one thing to who checks it and another to who runs it.
 * @throws SpecError naming `document`
 */
export function parseJson(raw: Uint8Array, document: string, limits: JsonLimits = {}): unknown {
  const text = decode(raw, document)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new SpecError(document, [{ pointer: '', message: `it is not JSON: ${messageOf(cause)}` }], { cause })
  }
  scan(text, document, limits.depth ?? 64, limits.values ?? 250_000)
  return value
}

/** Whether a JSON value is an object: neither null nor an array. */
export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** One reference token of a JSON Pointer, escaped (RFC 6901). */
export function pointerToken(name: string | number): string {
  return `/${String(name).replaceAll('~', '~0').replaceAll('/', '~1')}`
}

function decode(raw: Uint8Array, document: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(raw)
  } catch (cause) {
    throw new SpecError(document, [{ pointer: '', message: 'it is not UTF-8' }], { cause })
  }
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message.slice(0, 200) : String(cause)
}

interface Level {
  /** Names seen in an object; undefined for an array. */
  readonly names: Set<string> | undefined
  /** Member or index that is being read. */
  at: string | number
}

const [quoteMark, backslash, comma] = [0x22, 0x5c, 0x2c]
const [openBrace, closeBrace, openBracket, closeBracket] = [0x7b, 0x7d, 0x5b, 0x5d]

/** Looks at strings, brackets and commas: all that matters of a text that is known to be JSON. */
function scan(text: string, document: string, maxDepth: number, maxValues: number): void {
  const levels: Level[] = []
  let level: Level | undefined
  let expectName = false
  let values = 1
  const fail = (message: string): never => {
    const pointer = levels.map(({ at }) => pointerToken(at)).join('')
    throw new SpecError(document, [{ pointer: pointer.slice(0, 1000), message }])
  }
  for (let position = 0; position < text.length; position++) {
    switch (text.charCodeAt(position)) {
      case openBrace:
      case openBracket: {
        if (levels.length >= maxDepth) fail(`it is nested deeper than ${maxDepth} levels`)
        expectName = text.charCodeAt(position) === openBrace
        level = { names: expectName ? new Set() : undefined, at: expectName ? '' : 0 }
        levels.push(level)
        break
      }
      case closeBrace:
      case closeBracket:
        levels.pop()
        level = levels.at(-1)
        expectName = false
        break
      case comma:
        values += 1
        if (values > maxValues) fail(`it has more than ${maxValues} values`)
        if (typeof level?.at === 'number') level.at += 1
        expectName = level?.names !== undefined
        break
      case quoteMark: {
        const start = position
        position = endOfString(text, start)
        if (!expectName || level?.names === undefined) break
        const name = text.slice(start + 1, position)
        level.at = name.includes('\\') ? String(JSON.parse(`"${name}"`)) : name
        if (level.names.has(level.at)) fail(`the name ${quote(level.at)} occurs twice`)
        level.names.add(level.at)
        expectName = false
      }
    }
  }
}

/** Where the string that begins at `start` has its closing quotation mark. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); ; end = text.indexOf('"', end + 1)) {
    let first = end
    while (text.charCodeAt(first - 1) === backslash) first--
    // An even number of backslashes before it escape each other.
    if ((end - first) % 2 === 0) return end
  }
}
