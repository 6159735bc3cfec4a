import { ProtocolError } from '../../errors.ts'
import { Marshaller } from './marshal.ts'
import type { Value, Variant } from './signature.ts'
import { Unmarshaller } from './unmarshal.ts'

/** Types of messages (D-Bus specification, "Message Types"). */
export const messageType = { call: 1, answer: 2, error: 3, signal: 4 } as const

/** A message. What it does not have is undefined, or empty. */
export interface Message {
  readonly type: number
  readonly serial: number
  readonly path?: string | undefined
  readonly interface?: string | undefined
  readonly member?: string | undefined
  readonly errorName?: string | undefined
  readonly replySerial?: number | undefined
  readonly destination?: string | undefined
  readonly sender?: string | undefined
  readonly signature?: string | undefined
  readonly body?: readonly Value[] | undefined
}

/** Largest message that is read, in bytes; what systemd tells of a unit is a few KiB. */
const maxMessage = 1 << 20
const fixedSize = 16

/** Header fields by their codes, with their types. */
const fields = [
  [1, 'path', 'o'],
  [2, 'interface', 's'],
  [3, 'member', 's'],
  [4, 'errorName', 's'],
  [5, 'replySerial', 'u'],
  [6, 'destination', 's'],
  [7, 'sender', 's'],
  [8, 'signature', 'g'],
] as const

/** A message as it goes on the wire. */
export function encodeMessage(message: Message): Buffer {
  const { type, serial, signature = '', body = [] } = message
  const content = new Marshaller().all(signature, body).toBuffer()
  const given = fields.flatMap(([code, name, kind]): readonly Value[] => {
    const value = message[name]
    return value === undefined || value === '' ? [] : [[code, { signature: kind, value }]]
  })
  const header = new Marshaller().all('yyyyuua(yv)', [0x6c, type, 0, 1, content.length, serial, given]).align(8)
  return Buffer.concat([header.toBuffer(), content])
}

/**
 * The first message of `bytes`, and how long it is; undefined while it is not complete.
 * @throws ProtocolError for what is none, and for one of more than 1 MiB.
 */
export function decodeMessage(bytes: Buffer): { readonly message: Message; readonly size: number } | undefined {
  if (bytes.length < fixedSize) return undefined
  const isLittle = bytes[0] === 0x6c
  if ((!isLittle && bytes[0] !== 0x42) || bytes[3] !== 1) throw new ProtocolError('D-Bus', 'what came is no message')
  const word = (at: number): number => (isLittle ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at))
  const headerSize = (fixedSize + word(12) + 7) & ~7
  const size = headerSize + word(4)
  if (word(12) > maxMessage || size > maxMessage) throw new ProtocolError('D-Bus', `a message of ${size} bytes`)
  if (bytes.length < size) return undefined
  const header = new Unmarshaller(bytes.subarray(0, headerSize), isLittle, 12).all('a(yv)')
  const found = new Map((header[0] as readonly [number, Variant][]).map(([code, { value }]) => [code, value]))
  const named = Object.fromEntries(fields.map(([code, name]) => [name, found.get(code)])) as Partial<Message>
  const body = new Unmarshaller(bytes.subarray(headerSize, size), isLittle).all(named.signature ?? '')
  return { message: { ...named, type: bytes.readUInt8(1), serial: word(8), body }, size }
}
