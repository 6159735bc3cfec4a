import type { AccessRequest } from './auth/access.ts'

/** Tells users something about what they do: texts of printable characters, or undefined for nothing. */
export type Warnings = (
  access: AccessRequest,
) => string | readonly string[] | undefined | Promise<string | readonly string[] | undefined>

/** Bytes of all warnings of a response together (distribution-spec, "Warnings"). */
const maxLength = 4096

/** Adds Warning headers, as many as fit (distribution-spec, "Warnings"). */
export async function addWarnings(
  response: Response,
  warnings: Warnings | undefined,
  access: AccessRequest | undefined,
): Promise<void> {
  if (warnings === undefined || access === undefined) return
  const texts = (await warnings(access)) ?? []
  let length = 0
  for (const text of typeof texts === 'string' ? [texts] : texts) {
    const value = `299 - "${text.replace(/[^\x20-\x7e]/g, '?').replace(/["\\]/g, '\\$&')}"`
    length += value.length
    if (length > maxLength) return
    response.headers.append('Warning', value)
  }
}
