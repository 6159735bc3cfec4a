import { InvalidArgumentError } from '../errors.ts'

/** A size: a number of bytes, or a number with a binary unit: `'512k'`, `'64m'`, `'2g'`, `'1t'`. */
export type Bytes = number | `${number}${'b' | 'k' | 'm' | 'g' | 't' | ''}`

/** A duration: a number of milliseconds, or a number with a unit: `'250ms'`, `'30s'`, `'2m'`, `'1h'`. */
export type Duration = number | `${number}${'ms' | 's' | 'm' | 'h'}`

const byteUnits: Readonly<Record<string, number>> = { '': 1, b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 }
const durationUnits: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }

/** Bytes of a {@link Bytes}. @throws InvalidArgumentError naming the option. */
export function toBytes(value: Bytes, option: string): number {
  return convert(value, option, byteUnits, /^(\d+(?:\.\d+)?)([bkmgt]?)(?:i?b)?$/i, 'a size such as 67108864 or "64m"')
}

/** Milliseconds of a {@link Duration}. @throws InvalidArgumentError naming the option. */
export function toMilliseconds(value: Duration, option: string): number {
  return convert(value, option, durationUnits, /^(\d+(?:\.\d+)?)(ms|s|m|h)$/i, 'a duration such as 1500 or "30s"')
}

function convert(
  value: number | string,
  option: string,
  units: Readonly<Record<string, number>>,
  pattern: RegExp,
  expected: string,
): number {
  let result = Number.NaN
  if (typeof value === 'number') {
    result = value
  } else if (typeof value === 'string') {
    const match = pattern.exec(value.trim())
    if (match) result = Number(match[1]) * (units[(match[2] ?? '').toLowerCase()] ?? Number.NaN)
  }
  if (!Number.isFinite(result) || result < 0 || result > Number.MAX_SAFE_INTEGER) {
    throw new InvalidArgumentError(`${option} must be ${expected}, not ${JSON.stringify(value)}`, { subject: option })
  }
  return Math.floor(result)
}
