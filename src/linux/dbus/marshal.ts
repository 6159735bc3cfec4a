import { alignmentOf, typesOf, type Value, type Variant } from './signature.ts'

/** Writes values as D-Bus has them on the wire, little-endian (D-Bus specification, "Marshaling"). */
export class Marshaller {
  private readonly parts: Buffer[] = []
  private length = 0

  /** Writes `values`, one for each complete type of `signature`. */
  all(signature: string, values: readonly Value[]): this {
    typesOf(signature).forEach((type, index) => {
      this.value(type, values[index] as Value)
    })
    return this
  }

  /** Fills up to a multiple of `alignment`. */
  align(alignment: number): this {
    const missing = -this.length & (alignment - 1)
    if (missing > 0) this.push(Buffer.alloc(missing))
    return this
  }

  toBuffer(): Buffer {
    return Buffer.concat(this.parts)
  }

  private value(type: string, value: Value): void {
    this.align(alignmentOf(type))
    switch (type[0]) {
      case 'a':
        this.array(type.slice(1), value as readonly Value[])
        break
      case '(':
      case '{':
        this.all(type.slice(1, -1), value as readonly Value[])
        break
      case 'v': {
        const variant = value as Variant
        this.value('g', variant.signature)
        this.value(variant.signature, variant.value)
        break
      }
      case 's':
      case 'o': {
        const text = Buffer.from(`${value as string}\0`)
        this.push(number('u', text.length - 1))
        this.push(text)
        break
      }
      case 'g': {
        const text = Buffer.from(`${value as string}\0`, 'latin1')
        this.push(Buffer.from([text.length - 1]))
        this.push(text)
        break
      }
      default:
        this.push(number(type, typeof value === 'boolean' ? Number(value) : (value as number | bigint)))
    }
  }

  private array(type: string, values: readonly Value[]): void {
    const size = Buffer.alloc(4)
    this.push(size)
    // The size does not count what fills up to the first element.
    this.align(alignmentOf(type))
    const start = this.length
    for (const each of values) this.value(type, each)
    size.writeUInt32LE(this.length - start)
  }

  private push(bytes: Buffer): void {
    this.parts.push(bytes)
    this.length += bytes.length
  }
}

function number(type: string, value: number | bigint): Buffer {
  const bytes = Buffer.alloc(alignmentOf(type))
  if (type === 'y') bytes.writeUInt8(Number(value))
  else if (type === 'n') bytes.writeInt16LE(Number(value))
  else if (type === 'q') bytes.writeUInt16LE(Number(value))
  else if (type === 'i') bytes.writeInt32LE(Number(value))
  else if (type === 'x') bytes.writeBigInt64LE(BigInt(value))
  else if (type === 't') bytes.writeBigUInt64LE(BigInt(value))
  else if (type === 'd') bytes.writeDoubleLE(Number(value))
  else bytes.writeUInt32LE(Number(value))
  return bytes
}
