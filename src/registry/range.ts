/** A part of a blob: from `start` up to, not including, `end`. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

/**
 * Reads a Range header (RFC 9110, section 14.2) for content of `size` bytes. `undefined` means all of
 * it: no header, another unit, several ranges, or no valid header at all.
 */
export function parseRange(header: string | null, size: number): ByteRange | 'unsatisfiable' | undefined {
  const match = /^bytes=(\d{0,16})-(\d{0,16})$/i.exec(header?.trim() ?? '')
  const [, first = '', last = ''] = match ?? []
  if (first === '' && last === '') return undefined
  const start = first === '' ? Math.max(0, size - Number(last)) : Number(first)
  const end = first === '' || last === '' ? size : Math.min(size, Number(last) + 1)
  // A range that ends before it begins is invalid rather than unsatisfiable, but an answer of 416 says more than all
  // of the content.
  return start < end ? { start, end } : 'unsatisfiable'
}

/**
 * Reads the Content-Range of a chunk, `<first>-<last>` (distribution-spec, "Pushing a blob in chunks").
 * The form of RFC 9110, `bytes <first>-<last>/<size>`, is accepted too. Returns undefined for anything else.
 */
export function parseContentRange(header: string): ByteRange | undefined {
  const match = /^(?:bytes )?(\d{1,15})-(\d{1,15})(?:\/(?:\d{1,15}|\*))?$/.exec(header.trim())
  if (match === null) return undefined
  const start = Number(match[1])
  const end = Number(match[2]) + 1
  return start < end ? { start, end } : undefined
}
