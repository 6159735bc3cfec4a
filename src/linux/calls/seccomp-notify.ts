import { type Call, type CallOptions, call, type Out, out, struct } from '../call.ts'
import { type Fd, ioctl } from './files.ts'

/** Commands of a seccomp listener (include/uapi/linux/seccomp.h). */
const command = {
  receive: 0xc050_2100,
  send: 0xc018_2101,
  isValid: 0x4008_2102,
  addDescriptor: 0x4018_2103,
} as const

/** A system call that waits for its answer (struct seccomp_notif). */
export interface Notification {
  /** Of this wait alone. */
  readonly id: bigint
  /** The thread that makes the call, as whoever received this sees it. */
  readonly pid: number
  readonly number: number
  /** AUDIT_ARCH of the call. */
  readonly audit: number
  readonly args: readonly bigint[]
}

/** What a system call comes to (struct seccomp_notif_resp). */
export type Response = { readonly goOn: true } | { readonly errno: number } | { readonly value: bigint }

/** Where {@link receiveNotification} puts it. */
export function notificationOut(): Out {
  return out(80)
}

/** ioctl SECCOMP_IOCTL_NOTIF_RECV: takes the next system call that waits. Blocks. */
export function receiveNotification(listener: Fd, to: Out, options?: CallOptions): Call {
  return ioctl(listener, command.receive, to, options)
}

/** What was received. */
export function parseNotification(bytes: Buffer): Notification {
  return {
    id: bytes.readBigUInt64LE(0),
    pid: bytes.readUInt32LE(8),
    number: bytes.readUInt32LE(16),
    audit: bytes.readUInt32LE(20),
    args: Array.from({ length: 6 }, (_, index) => bytes.readBigUInt64LE(32 + 8 * index)),
  }
}

/** ioctl SECCOMP_IOCTL_NOTIF_SEND: lets a system call go on, or end. ENOENT when it does not wait any more. */
export function sendResponse(listener: Fd, id: bigint, response: Response, options?: CallOptions): Call {
  const bytes = Buffer.alloc(24)
  bytes.writeBigUInt64LE(id, 0)
  if ('value' in response) bytes.writeBigInt64LE(BigInt.asIntN(64, response.value), 8)
  if ('errno' in response) bytes.writeInt32LE(-response.errno, 16)
  if ('goOn' in response) bytes.writeUInt32LE(1, 20)
  return ioctl(listener, command.send, bytes, options)
}

/** ioctl SECCOMP_IOCTL_NOTIF_ID_VALID: ENOENT when the system call does not wait any more. */
export function isStillWaiting(listener: Fd, id: bigint, options?: CallOptions): Call {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(id, 0)
  return ioctl(listener, command.isValid, bytes, options)
}

/**
 * ioctl SECCOMP_IOCTL_NOTIF_ADDFD: gives the caller a copy of the descriptor numbered `fd`; its number there is what
 * the system call returns, at once (SECCOMP_ADDFD_FLAG_SEND, Linux 5.14).
 */
export function addDescriptor(listener: Fd, id: bigint, fd: number, closeOnExec: boolean, options?: CallOptions): Call {
  const flagSend = 2
  const O_CLOEXEC = 0o2000000
  const bytes = Buffer.alloc(24)
  bytes.writeBigUInt64LE(id, 0)
  bytes.writeUInt32LE(flagSend, 8)
  bytes.writeUInt32LE(fd, 12)
  bytes.writeUInt32LE(closeOnExec ? O_CLOEXEC : 0, 20)
  return ioctl(listener, command.addDescriptor, bytes, options)
}

/**
 * process_vm_readv(2): copies memory of another process. It stops in front of the first page that is not there, and
 * then gives how much it has copied. Blocks as long as reading does there.
 */
export function readProcessMemory(pid: number, address: bigint, to: Out, options?: CallOptions): Call {
  const pageSize = 4096n
  const end = address + BigInt(to.size)
  const words: bigint[] = []
  for (let at = address; at < end; ) {
    // Pieces that lie in one page each: of a piece the kernel may copy all or nothing.
    const next = (at / pageSize + 1n) * pageSize
    const length = (next < end ? next : end) - at
    words.push(at, length)
    at += length
  }
  return call('process_vm_readv', [pid, struct([to, to.size]), 1, struct(words), words.length / 2, 0], options)
}
