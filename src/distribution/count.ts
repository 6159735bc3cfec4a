import { InvalidArgumentError } from '../errors.ts'

/** Checks an option that is a count from 1 to `max`. @throws InvalidArgumentError */
export function toCount(value: number, option: string, max: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= max) return value
  throw new InvalidArgumentError(`${option} must be 1 to ${max}, not ${value}`, { subject: option })
}
