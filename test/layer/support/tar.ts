/** Writes tar archives byte by byte, also such as no decent archiver would. */

export interface TestEntry {
  readonly name: string | Buffer
  /** Type flag; default `'0'`. */
  readonly type?: string
  readonly content?: string | Buffer
  /** Written into the size field; default the length of the content. */
  readonly size?: number
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly mtime?: number
  readonly linkName?: string | Buffer
  readonly device?: readonly [major: number, minor: number]
  readonly format?: 'ustar' | 'gnu' | 'v7' | 'star'
  readonly prefix?: string
  /** Records of an extended header in front of the entry; repeated keys as an array of pairs. */
  readonly pax?: Readonly<Record<string, string | Buffer>> | readonly (readonly [string, string | Buffer])[]
  /** Changes the finished header; the checksum is made afterwards. */
  readonly patch?: (header: Buffer) => void
}

const magics = { ustar: 'ustar\x0000', gnu: 'ustar  \0', v7: '\0\0\0\0\0\0\0\0', star: 'ustar\x0000' }

/** An archive of the entries with its end marker. */
export function tar(...entries: readonly TestEntry[]): Buffer {
  return Buffer.concat([...entries.map(entry), endMarker])
}

export const endMarker: Buffer = Buffer.alloc(1024)

/** One entry: extended header, header, content, padding. */
export function entry(options: TestEntry): Buffer {
  const content = Buffer.from(options.content ?? '')
  const own = Buffer.concat([header(options, content.length), content, padding(content.length)])
  return options.pax === undefined ? own : Buffer.concat([paxHeader(options.pax), own])
}

export function paxHeader(records: NonNullable<TestEntry['pax']>, type = 'x'): Buffer {
  const pairs = Array.isArray(records) ? records : Object.entries(records)
  const body = Buffer.concat(pairs.map(([key, value]: readonly [string, string | Buffer]) => paxRecord(key, value)))
  return entry({ name: 'PaxHeaders/x', type, content: body })
}

export function paxRecord(key: string, value: string | Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from('\n')])
  let length = rest.length + 1
  while (String(length).length + rest.length !== length) length += 1
  return Buffer.concat([Buffer.from(String(length)), rest])
}

export function padding(length: number): Buffer {
  return Buffer.alloc((512 - (length % 512)) % 512)
}

function header(options: TestEntry, length: number): Buffer {
  const block = Buffer.alloc(512)
  const format = options.format ?? 'ustar'
  Buffer.from(options.name).copy(block, 0, 0, 100)
  octal(block, options.mode ?? 0o644, 100, 8)
  octal(block, options.uid ?? 0, 108, 8)
  octal(block, options.gid ?? 0, 116, 8)
  octal(block, options.size ?? length, 124, 12)
  octal(block, options.mtime ?? 0, 136, 12)
  block.write(options.type ?? '0', 156, 'latin1')
  Buffer.from(options.linkName ?? '').copy(block, 157, 0, 100)
  block.write(magics[format], 257, 'latin1')
  if (format === 'star') block.write('tar\0', 508, 'latin1')
  if (format !== 'v7') {
    octal(block, options.device?.[0] ?? 0, 329, 8)
    octal(block, options.device?.[1] ?? 0, 337, 8)
    block.write(options.prefix ?? '', 345, 'latin1')
  }
  options.patch?.(block)
  block.fill(' ', 148, 156)
  octal(
    block,
    block.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  )
  return block
}

function octal(block: Buffer, value: number, at: number, length: number): void {
  const digits = value.toString(8)
  if (value < 0 || digits.length > length - 1) base256(block, value, at, length)
  else block.write(`${digits.padStart(length - 1, '0')}\0`, at, 'latin1')
}

/** GNU's form of large and negative numbers. */
export function base256(block: Buffer, value: number, at: number, length: number): void {
  let rest = BigInt.asUintN(length * 8, BigInt(value))
  for (let i = at + length - 1; i >= at; i -= 1) {
    block[i] = Number(rest & 0xffn)
    rest >>= 8n
  }
  block[at] = (block[at] ?? 0) | 0x80
}
