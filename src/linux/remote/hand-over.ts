import { libc, type Memory } from '../libc.ts'

const [SOL_SOCKET, SCM_RIGHTS, MSG_NOSIGNAL] = [1, 1, 0x4000]

/** Most that go with one message (SCM_MAX_FD). */
const mostDescriptors = 253

/** Bytes of a message that go with descriptors at most. */
const mostBehind = 1 << 18

/** Where the parts of a message lie (sendmsg(2), cmsg(3)): in memory that is laid out once, for it is sent often. */
const layout = { header: 0, vectors: 64, first: 96, control: 128, descriptors: 144, behind: 4096 } as const

let memory: Memory | undefined

/**
 * Sends descriptors to whoever waits for them at the other end of a socket (unix(7), SCM_RIGHTS): with one byte, and as
 * much of `message` as there is room for behind it.
 * @returns how many bytes of the message went; undefined when nothing did: the other end has gone, as a rule.
 */
export function handOver(fd: number, descriptors: readonly number[], message?: Uint8Array): number | undefined {
  if (descriptors.length > mostDescriptors) return undefined
  memory ??= prepare()
  const { address, bytes } = memory
  const behind = Math.min(message?.length ?? 0, mostBehind)
  if (message !== undefined) bytes.set(message.subarray(0, behind), layout.behind)
  const length = layout.descriptors - layout.control + 4 * descriptors.length
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, layout.behind >> 2)
  words[layout.header / 4 + 6] = behind > 0 ? 2 : 1
  words[layout.header / 4 + 10] = (length + 7) & ~7
  words[layout.vectors / 4 + 6] = behind
  words[layout.control / 4] = length
  for (let i = 0; i < descriptors.length; i++) words[layout.descriptors / 4 + i] = descriptors[i] as number
  const sent = libc().call('sendmsg', fd, address + layout.header, MSG_NOSIGNAL)
  return sent < 1 ? undefined : sent - 1
}

function prepare(): Memory {
  const made = libc().allocate(layout.behind + mostBehind)
  const { address, bytes } = made
  bytes.writeBigUInt64LE(BigInt(address + layout.vectors), layout.header + 16)
  bytes.writeBigUInt64LE(BigInt(address + layout.control), layout.header + 32)
  bytes.writeBigUInt64LE(BigInt(address + layout.first), layout.vectors)
  bytes.writeBigUInt64LE(1n, layout.vectors + 8)
  bytes.writeBigUInt64LE(BigInt(address + layout.behind), layout.vectors + 16)
  bytes.write(' ', layout.first)
  bytes.writeInt32LE(SOL_SOCKET, layout.control + 8)
  bytes.writeInt32LE(SCM_RIGHTS, layout.control + 12)
  return made
}
