import { InvalidArgumentError } from '../../errors.ts'
import type { Value, Variant } from '../../linux/dbus/signature.ts'
import type { Property } from './manager.ts'

/** Annotations that set properties of the unit begin with it, as runc and crun have it. */
export const propertyPrefix = 'org.systemd.property.'

/** Properties by which a container would put others, or itself, elsewhere than the config says. */
const reserved: readonly string[] = ['PIDs', 'Slice', 'Delegate', 'Description']

/**
 * Properties of the unit that annotations ask for: their values are texts of GVariant. A name that ends in `Sec` is
 * the one in microseconds, with a value in seconds.
 * @throws InvalidArgumentError for a value that can't be read.
 */
export function annotatedProperties(annotations: Readonly<Record<string, string>>): readonly Property[] {
  return Object.entries(annotations).flatMap(([key, text]): readonly Property[] => {
    if (!key.startsWith(propertyPrefix)) return []
    const name = key.slice(propertyPrefix.length)
    if (!/^[A-Za-z]{4,64}$/.test(name) || reserved.includes(name)) {
      throw new InvalidArgumentError(`annotation ${key}: this is no property that can be set`)
    }
    const variant = parseVariant(text)
    if (variant === undefined) throw new InvalidArgumentError(`annotation ${key}: ${JSON.stringify(text)} is no value`)
    if (!/[a-z]Sec$/.test(name) || name.endsWith('USec')) return [[name, variant]]
    if (typeof variant.value !== 'number' && typeof variant.value !== 'bigint') {
      throw new InvalidArgumentError(`annotation ${key}: ${JSON.stringify(text)} is no number of seconds`)
    }
    const value = BigInt(Math.round(Number(variant.value) * 1e6))
    return [[`${name.slice(0, -'Sec'.length)}USec`, { signature: 't', value }]]
  })
}

const signatures: Readonly<Record<string, string>> = {
  ...{ byte: 'y', int16: 'n', uint16: 'q', int32: 'i', uint32: 'u', int64: 'x', uint64: 't', double: 'd' },
}

/** A value in GVariant's text format: a boolean, number or string, or a list of strings; undefined for any other. */
function parseVariant(text: string): Variant | undefined {
  const trimmed = text.trim()
  if (trimmed === 'true' || trimmed === 'false') return { signature: 'b', value: trimmed === 'true' }
  const single = stringOf(trimmed)
  if (single !== undefined) return { signature: 's', value: single }
  const [, type, number] = /^(?:([a-z]+\d*)\s+)?(-?\d{1,20}(?:\.\d{1,20})?)$/.exec(trimmed) ?? []
  if (number !== undefined) return numberOf(type ?? (number.includes('.') ? 'double' : 'int32'), number)
  const items = /^\[(.*)\]$/s.exec(trimmed)?.[1]?.match(/'[^']*'|"[^"]*"|[^,\s]+/g)
  const values = items?.map(stringOf)
  if (values === undefined || values.includes(undefined)) return undefined
  return { signature: 'as', value: values as readonly Value[] }
}

function stringOf(text: string): string | undefined {
  return /^(?:'([^'\\]*)'|"([^"\\]*)")$/
    .exec(text)
    ?.slice(1)
    .find((part) => part !== undefined)
}

/** Least and largest values, by signature. */
const ranges: Readonly<Record<string, readonly [bigint, bigint]>> = {
  y: [0n, 255n],
  n: [-(1n << 15n), (1n << 15n) - 1n],
  q: [0n, (1n << 16n) - 1n],
  i: [-(1n << 31n), (1n << 31n) - 1n],
  u: [0n, (1n << 32n) - 1n],
  x: [-(1n << 63n), (1n << 63n) - 1n],
  t: [0n, (1n << 64n) - 1n],
}

function numberOf(type: string, text: string): Variant | undefined {
  const signature = signatures[type]
  if (signature === 'd') return { signature, value: Number(text) }
  const range = ranges[signature ?? '']
  if (signature === undefined || range === undefined || text.includes('.')) return undefined
  const value = BigInt(text)
  return value < range[0] || value > range[1] ? undefined : { signature, value }
}
