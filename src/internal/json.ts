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

/** Strings, brackets and commas: all that matters of a text that is known to be JSON. */
const token = /"(?:[^"\\]|\\.)*"|[{}[\],]/g

function scan(text: string, document: string, maxDepth: number, maxValues: number): void {
  const levels: Level[] = []
  let expectName = false
  let values = 1
  const fail = (message: string): never => {
    const pointer = levels.map((level) => pointerToken(level.at)).join('')
    throw new SpecError(document, [{ pointer: pointer.slice(0, 1000), message }])
  }
  for (const [part] of text.matchAll(token)) {
    const level = levels.at(-1)
    switch (part) {
      case '{':
      case '[':
        if (levels.length >= maxDepth) fail(`it is nested deeper than ${maxDepth} levels`)
        levels.push({ names: part === '{' ? new Set() : undefined, at: part === '{' ? '' : 0 })
        expectName = part === '{'
        break
      case '}':
      case ']':
        levels.pop()
        expectName = false
        break
      case ',':
        values += 1
        if (values > maxValues) fail(`it has more than ${maxValues} values`)
        if (typeof level?.at === 'number') level.at += 1
        expectName = level?.names !== undefined
        break
      default:
        if (!expectName || level?.names === undefined) break
        level.at = part.includes('\\') ? String(JSON.parse(part)) : part.slice(1, -1)
        if (level.names.has(level.at)) fail(`the name ${quote(level.at)} occurs twice`)
        level.names.add(level.at)
        expectName = false
    }
  }
}
