import { InvalidArgumentError } from '../../errors.ts'
import { type Call, type CallOptions, call, out, struct } from '../call.ts'
import type { Fd } from './files.ts'
import { AF_UNIX } from './processes.ts'

/** Bytes of the path in struct sockaddr_un, its NUL included. */
const longestPath = 108

/**
 * Address of a socket that is a file. A path through `/proc/self/fd/<directory>` reaches sockets whose own path
 * is too long. @throws InvalidArgumentError for a path of more than 107 bytes.
 */
function unixAddress(path: string): Buffer {
  const bytes = Buffer.from(`${path}\0`)
  if (bytes.length > longestPath) {
    throw new InvalidArgumentError(`the path of a socket has at most ${longestPath - 1} bytes: ${path}`, {
      subject: path,
    })
  }
  const family = Buffer.alloc(2)
  family.writeUInt16LE(AF_UNIX)
  return Buffer.concat([family, bytes])
}

/** bind(2) to a file. */
export function bindTo(fd: Fd, path: string, options?: CallOptions): Call {
  const address = unixAddress(path)
  return call('bind', [fd, address, address.length], { path, ...options })
}

export function listen(fd: Fd, backlog: number, options?: CallOptions): Call {
  return call('listen', [fd, backlog], options)
}

/** connect(2) to a socket that is a file. */
export function connectTo(fd: Fd, path: string, options?: CallOptions): Call {
  const address = unixAddress(path)
  return call('connect', [fd, address, address.length], { path, ...options })
}

/** accept4(2), whoever it is. Blocks. The descriptor is close-on-exec. */
export function accept(fd: Fd, options?: CallOptions): Call {
  const SOCK_CLOEXEC = 0o2000000
  return call('accept4', [fd, 0, 0, SOCK_CLOEXEC], options)
}

/** recv(2) that takes nothing and does not wait: gives 1 when something has come, 0 when the other end is closed. */
export function peek(fd: Fd, options?: CallOptions): Call {
  const [MSG_PEEK, MSG_DONTWAIT] = [0x2, 0x40]
  return call('recvfrom', [fd, out(1), 1, MSG_PEEK + MSG_DONTWAIT, 0, 0], options)
}

/** Bytes in front of the descriptors in a control message (cmsg(3)). */
const headerSize = 16

/** sendmsg(2) of a message with descriptors (unix(7), SCM_RIGHTS), which come with the first byte. */
export function sendDescriptors(fd: Fd, message: string, descriptors: readonly number[], options?: CallOptions): Call {
  const [SOL_SOCKET, SCM_RIGHTS, MSG_NOSIGNAL] = [1, 1, 0x4000]
  const length = headerSize + 4 * descriptors.length
  const control = Buffer.alloc((length + 7) & ~7)
  control.writeBigUInt64LE(BigInt(length), 0)
  control.writeInt32LE(SOL_SOCKET, 8)
  control.writeInt32LE(SCM_RIGHTS, 12)
  descriptors.forEach((each, index) => {
    control.writeInt32LE(each, headerSize + 4 * index)
  })
  const header = struct([0, 0, struct([message, Buffer.byteLength(message)]), 1, control, control.length, 0])
  return call('sendmsg', [fd, header, MSG_NOSIGNAL], options)
}

/**
 * recvmsg(2) of a message of one byte with at most `count` descriptors. They get the lowest numbers that are free,
 * and are not close-on-exec. @param options.wait Whether it waits for the message. Default false.
 */
export function receiveDescriptors(
  fd: Fd,
  count: number,
  { wait, ...options }: CallOptions & { readonly wait?: boolean } = {},
): Call {
  const MSG_DONTWAIT = wait === true ? 0 : 0x40
  const control = out((headerSize + 4 * count + 7) & ~7)
  const header = struct([0, 0, struct([out(1), 1]), 1, control, control.size, 0])
  return call('recvmsg', [fd, header, MSG_DONTWAIT], options)
}
