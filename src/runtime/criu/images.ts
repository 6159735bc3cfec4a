import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** What CRIU's images begin with: IMG_COMMON_MAGIC, and the mark of what is in them, such as FILES_MAGIC. */
const imageMagic = 0x54564319
const magics = { files: 0x56303138, core: 0x55053847 } as const

/** Fields of its protocol buffers: `file_entry` and, in that, `reg_file_entry`; `core_entry`, and `thread_core_entry`. */
const file = { regular: 3 } as const
const regular = { position: 3, size: 8, external: 9 } as const
const core = { thread: 5 } as const
const thread = { parentDeathSignal: 8 } as const

/** A position that CRIU does not go to: all bits set. */
const noPosition = Buffer.from([regular.position << 3, ...Array<number>(9).fill(0xff), 1])

/** One field of a message, as it is and what it holds. */
interface Field {
  readonly number: number
  readonly bytes: Buffer
  /** Of a message in it. */
  readonly content: Buffer | undefined
  readonly value: number | undefined
}

/**
 * Removes what CRIU has noted of the position, the size, the mode and the checksum of files outside of the container: the
 * ones that stand in for them are others, with other content.
 */
export function forgetExternalFiles(imagePath: string): void {
  changeEntries(join(imagePath, 'files.img'), magics.files, withoutPlace)
}

/**
 * Removes what CRIU has noted of a signal that the first process gets when its parent ends: that was for the monitor that
 * it had, and whoever restores it says whether it is to end with that. @param pid as the container calls it
 */
export function forgetParent(imagePath: string, pid: number): void {
  changeEntries(join(imagePath, `core-${pid}.img`), magics.core, withoutSignal)
}

function changeEntries(path: string, magic: number, change: (entry: Buffer) => Buffer): void {
  const image = readFileSync(path)
  if (image.readUInt32LE(0) !== imageMagic || image.readUInt32LE(4) !== magic) return
  const parts: Buffer[] = [image.subarray(0, 8)]
  for (let at = 8; at < image.length; ) {
    const size = image.readUInt32LE(at)
    const entry = change(image.subarray(at + 4, at + 4 + size))
    const length = Buffer.alloc(4)
    length.writeUInt32LE(entry.length)
    parts.push(length, entry)
    at += 4 + size
  }
  writeFileSync(path, Buffer.concat(parts), { mode: 0o600 })
}

function withoutSignal(entry: Buffer): Buffer {
  return Buffer.concat(
    fieldsOf(entry).map(({ number, bytes, content }) => {
      if (number !== core.thread || content === undefined) return bytes
      const kept = fieldsOf(content).filter((each) => each.number !== thread.parentDeathSignal)
      return message(
        number,
        kept.map((each) => each.bytes),
      )
    }),
  )
}

/** A field that holds a message. */
function message(number: number, fields: readonly Buffer[]): Buffer {
  const content = Buffer.concat(fields)
  return Buffer.concat([varint((number << 3) | 2), varint(content.length), content])
}

function withoutPlace(entry: Buffer): Buffer {
  const fields = fieldsOf(entry)
  return Buffer.concat(
    fields.map(({ number, bytes, content }) => {
      const inner = number === file.regular && content !== undefined ? fieldsOf(content) : []
      if (!inner.some((each) => each.number === regular.external && each.value === 1)) return bytes
      const kept = inner.filter((each) => each.number < regular.size || each.number === regular.external)
      return message(
        number,
        kept.map((each) => (each.number === regular.position ? noPosition : each.bytes)),
      )
    }),
  )
}

/** Takes a message apart. */
function fieldsOf(message: Buffer): readonly Field[] {
  const fields: Field[] = []
  for (let at = 0; at < message.length; ) {
    const begin = at
    const next = (): number => {
      let value = 0
      for (let weight = 1; ; weight *= 128) {
        const byte = message.readUInt8(at++)
        value += (byte & 0x7f) * weight
        if (byte < 0x80) return value
      }
    }
    const key = next()
    const type = key & 7
    let content: Buffer | undefined
    let value: number | undefined
    if (type === 0) value = next()
    else if (type === 2) {
      const length = next()
      content = message.subarray(at, at + length)
      at += length
    } else at += type === 1 ? 8 : 4
    fields.push({ number: Math.floor(key / 8), bytes: message.subarray(begin, at), content, value })
  }
  return fields
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128)
  return Buffer.from([...bytes, rest])
}
