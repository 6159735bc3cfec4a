import { ProtocolError } from '../../errors.ts'
import { alignmentOf, typesOf, type Value } from './signature.ts'

/** Deepest nesting of variants, which the signature of a message does not bound. */
const maxVariants = 16

/**
 * Reads values as D-Bus has them on the wire, in either byte order. Everything is bounded by the bytes that are there.
 * @throws ProtocolError for what does not fit its signature.
 */
export class Unmarshaller {
  private readonly bytes: Buffer
  private readonly isLittle: boolean
  private at: number

  constructor(bytes: Buffer, isLittle: boolean, at: number = 0) {
    this.bytes = bytes
    this.isLittle = isLittle
    this.at = at
  }

  all(signature: string, variants: number = 0): readonly Value[] {
    return typesOf(signature).map((type) => this.value(type, variants))
  }

  private value(type: string, variants: number): Value {
    this.align(alignmentOf(type))
    switch (type[0]) {
      case 'a':
        return this.array(type.slice(1), variants)
      case '(':
      case '{':
        return this.all(type.slice(1, -1), variants)
      case 'v':
        return this.variant(variants)
      case 's':
      case 'o':
        return this.text(this.number('u') as number)
      case 'g':
        return this.text(this.number('y') as number)
      case 'b':
        return this.number('u') !== 0
      default:
        return this.number(type)
    }
  }

  private variant(variants: number): Value {
    const signature = this.text(this.number('y') as number)
    const types = typesOf(signature)
    if (types.length !== 1 || variants === maxVariants) throw malformed('a variant of no type')
    return { signature, value: this.value(signature, variants + 1) }
  }

  private array(type: string, variants: number): Value {
    const size = this.number('u') as number
    this.align(alignmentOf(type))
    const end = this.at + size
    if (end > this.bytes.length) throw malformed('an array that does not end')
    if (type === 'y') return this.take(size)
    const values: Value[] = []
    while (this.at < end) {
      const before = this.at
      values.push(this.value(type, variants))
      // Of nothing there could be any number.
      if (this.at === before || this.at > end) throw malformed('an array of the wrong size')
    }
    return values
  }

  private text(length: number): string {
    const text = this.take(length).toString('utf8')
    this.take(1)
    return text
  }

  private number(type: string): number | bigint {
    const size = alignmentOf(type)
    const bytes = this.take(size)
    const { isLittle } = this
    if (type === 'y') return bytes.readUInt8()
    if (type === 'n') return isLittle ? bytes.readInt16LE() : bytes.readInt16BE()
    if (type === 'q') return isLittle ? bytes.readUInt16LE() : bytes.readUInt16BE()
    if (type === 'i') return isLittle ? bytes.readInt32LE() : bytes.readInt32BE()
    if (type === 'x') return isLittle ? bytes.readBigInt64LE() : bytes.readBigInt64BE()
    if (type === 't') return isLittle ? bytes.readBigUInt64LE() : bytes.readBigUInt64BE()
    if (type === 'd') return isLittle ? bytes.readDoubleLE() : bytes.readDoubleBE()
    return isLittle ? bytes.readUInt32LE() : bytes.readUInt32BE()
  }

  private align(alignment: number): void {
    this.take(-this.at & (alignment - 1))
  }

  private take(size: number): Buffer {
    if (this.at + size > this.bytes.length) throw malformed('a message that is cut off')
    const part = this.bytes.subarray(this.at, this.at + size)
    this.at += size
    return part
  }
}

function malformed(what: string): ProtocolError {
  return new ProtocolError('D-Bus', what)
}
