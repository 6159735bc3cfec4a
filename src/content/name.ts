import { InvalidArgumentError } from '../errors.ts'
import { isDigest } from '../image/digest.ts'
import { quote } from '../internal/text.ts'

/**
 * Checks a name to be given to content: 1 to 1,024 printable characters, and no digest, which names
 * its own content only.
 * @throws InvalidArgumentError
 */
export function assertName(name: string): void {
  const good = /^[^\p{Cc}\p{Zl}\p{Zp}]{1,1024}$/u.test(name) && name.trim() === name && !isDigest(name)
  if (good) return
  throw new InvalidArgumentError(`${quote(name)} can't be the name of an image`, { subject: name })
}
