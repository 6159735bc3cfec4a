import { type Call, type CallOptions, call, type Out, out, struct } from '../call.ts'
import type { Fd } from './files.ts'

const SOL_SOCKET = 1
const SCM_RIGHTS = 1
const MSG_PEEK = 2
const MSG_DONTWAIT = 0x40
const MSG_NOSIGNAL = 0x4000
const MSG_CMSG_CLOEXEC = 0x40000000
/** Bytes of a control message with one descriptor, padded (cmsg(3)). */
const controlSize = 24
const headerSize = 16

/** sendmsg(2) of the descriptor numbered `fd` with some bytes, at least one (unix(7), SCM_RIGHTS). */
export function sendDescriptor(socket: Fd, fd: number, text: string, options?: CallOptions): Call {
  const control = Buffer.alloc(controlSize)
  control.writeBigUInt64LE(BigInt(headerSize + 4), 0)
  control.writeInt32LE(SOL_SOCKET, 8)
  control.writeInt32LE(SCM_RIGHTS, 12)
  control.writeInt32LE(fd, headerSize)
  const bytes = Buffer.from(text)
  const vector = struct([bytes, bytes.length])
  const message = struct([0, 0, vector, 1, control, controlSize, 0])
  return call('sendmsg', [socket, message, MSG_NOSIGNAL], options)
}

/** Where {@link receiveMessage} puts what it receives: a descriptor that was sent to this process. */
export function descriptorOut(): Out {
  return out(controlSize)
}

/** recvmsg(2) of a message of {@link sendDescriptor}; does not wait. The descriptor is close-on-exec. */
export function receiveMessage(socket: Fd, control: Out, options?: CallOptions): Call {
  const message = struct([0, 0, struct([out(1), 1]), 1, control, controlSize, 0])
  return call('recvmsg', [socket, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC], options)
}

/** As {@link receiveMessage}, but it waits, and the message stays there for others who want the descriptor. */
export function peekMessage(socket: Fd, control: Out, options?: CallOptions): Call {
  const message = struct([0, 0, struct([out(1), 1]), 1, control, controlSize, 0])
  return call('recvmsg', [socket, message, MSG_PEEK | MSG_CMSG_CLOEXEC], options)
}

/** The descriptor of a message; undefined when it has none. */
export function receivedDescriptor(control: Buffer): number | undefined {
  const isOne = control.readBigUInt64LE(0) === BigInt(headerSize + 4) && control.readInt32LE(12) === SCM_RIGHTS
  return isOne ? control.readInt32LE(headerSize) : undefined
}
