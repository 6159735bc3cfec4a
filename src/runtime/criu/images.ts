import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Marks of CRIU's image of open files: IMG_COMMON_MAGIC and FILES_MAGIC. */
const magics: readonly number[] = [0x54564319, 0x56303138]

/** Fields of its protocol buffers: `file_entry` and, in that, `reg_file_entry`. */
const file = { regular: 3 } as const
const regular = { position: 3, size: 8, external: 9 } as const

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
  const path = join(imagePath, 'files.img')
  const image = readFileSync(path)
  if (magics.some((magic, index) => image.readUInt32LE(4 * index) !== magic)) return
  const parts: Buffer[] = [image.subarray(0, 8)]
  for (let at = 8; at < image.length; ) {
    const size = image.readUInt32LE(at)
    const entry = forgotten(image.subarray(at + 4, at + 4 + size))
    const length = Buffer.alloc(4)
    length.writeUInt32LE(entry.length)
    parts.push(length, entry)
    at += 4 + size
  }
  writeFileSync(path, Buffer.concat(parts), { mode: 0o600 })
}

function forgotten(entry: Buffer): Buffer {
  const fields = fieldsOf(entry)
  return Buffer.concat(
    fields.map(({ number, bytes, content }) => {
      const inner = number === file.regular && content !== undefined ? fieldsOf(content) : []
      if (!inner.some((each) => each.number === regular.external && each.value === 1)) return bytes
      const kept = inner.filter((each) => each.number < regular.size || each.number === regular.external)
      const message = Buffer.concat(kept.map((each) => (each.number === regular.position ? noPosition : each.bytes)))
      return Buffer.concat([varint((number << 3) | 2), varint(message.length), message])
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
