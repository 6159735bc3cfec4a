import { InvalidArgumentError } from '../errors.ts'
import { quote } from './text.ts'

/** An option that has one of a few values. @throws InvalidArgumentError naming them. */
export function oneOf<T extends string>(option: string, value: T, allowed: readonly T[]): T {
  if (allowed.includes(value)) return value
  const list = allowed.map((each) => JSON.stringify(each)).join(', ')
  throw new InvalidArgumentError(`${option} must be one of ${list}, not ${describe(value)}`, { subject: option })
}

/** What was given, for an error: text as it is, all else by its kind. */
export function describe(value: unknown): string {
  if (typeof value === 'string') return quote(value)
  return value === null ? 'null' : Array.isArray(value) ? 'an array' : typeof value
}
