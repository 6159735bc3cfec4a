/**
 * Messages of rtnetlink(7), as far as devices and addresses go: a header, a fixed part of the family, and attributes.
 * All numbers are in the byte order of the host, which is little-endian here.
 */

/** Types of messages. */
export const RTM = { NEWLINK: 16, GETLINK: 18, NEWADDR: 20, GETADDR: 22 } as const

/** Flags of requests. */
export const NLM_F = { REQUEST: 1, ACK: 4, EXCL: 0x200, DUMP: 0x300, CREATE: 0x400 } as const

const NLMSG_ERROR = 2
const NLMSG_DONE = 3
const headerSize = 16

/** An attribute of a message: its number and its bytes. */
export type Attribute = readonly [type: number, value: Uint8Array]

/** A message that was received. */
export interface NetlinkMessage {
  readonly type: number
  /** Fixed part and attributes. */
  readonly body: Buffer
}

/** A request; `fixed` is the fixed part of its family. */
export function netlinkRequest(
  type: number,
  flags: number,
  fixed: Uint8Array,
  attributes: readonly Attribute[],
): Buffer {
  const parts: Uint8Array[] = [Buffer.alloc(headerSize), fixed]
  for (const [number, value] of attributes) {
    const head = Buffer.alloc(4)
    head.writeUInt16LE(4 + value.length, 0)
    head.writeUInt16LE(number, 2)
    parts.push(head, value, Buffer.alloc(-value.length & 3))
  }
  const request = Buffer.concat(parts)
  request.writeUInt32LE(request.length, 0)
  request.writeUInt16LE(type, 4)
  request.writeUInt16LE(flags | NLM_F.REQUEST, 6)
  return request
}

/** What an answer says: its messages, whether more will come, and the errno of a refusal (0 for none). */
export interface NetlinkAnswer {
  readonly messages: readonly NetlinkMessage[]
  readonly done: boolean
  readonly errno: number
}

/** Takes apart what was received. What is cut short is left out. */
export function parseAnswer(bytes: Buffer): NetlinkAnswer {
  const messages: NetlinkMessage[] = []
  let done = false
  let errno = 0
  for (let at = 0; at + headerSize <= bytes.length; ) {
    const size = bytes.readUInt32LE(at)
    if (size < headerSize || at + size > bytes.length) break
    const type = bytes.readUInt16LE(at + 4)
    const body = bytes.subarray(at + headerSize, at + size)
    if (type === NLMSG_DONE) done = true
    else if (type === NLMSG_ERROR) {
      done = true
      errno = body.length < 4 ? 0 : -body.readInt32LE(0)
    } else messages.push({ type, body })
    at += (size + 3) & ~3
  }
  return { messages, done, errno }
}

/** The attributes of a message behind a fixed part of `fixed` bytes, by number. */
export function attributesOf(body: Buffer, fixed: number): ReadonlyMap<number, Buffer> {
  const attributes = new Map<number, Buffer>()
  for (let at = fixed; at + 4 <= body.length; ) {
    const size = body.readUInt16LE(at)
    if (size < 4 || at + size > body.length) break
    attributes.set(body.readUInt16LE(at + 2) & 0x3fff, body.subarray(at + 4, at + size))
    at += (size + 3) & ~3
  }
  return attributes
}
