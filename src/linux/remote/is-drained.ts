import { libc, type Memory } from '../libc.ts'

/** Requests of ioctl(2) (include/uapi/asm-generic/ioctls.h). */
const [SIOCINQ, SIOCOUTQ] = [0x541b, 0x5411]

let memory: Memory | undefined

/** Whether all that was ever sent over a pair of local stream sockets has been read: `fd` is one of them. */
export function isDrained(fd: number): boolean {
  const door = libc()
  memory ??= door.allocate(4)
  const { address, bytes } = memory
  for (const request of [SIOCOUTQ, SIOCINQ]) {
    if (door.call('ioctl', fd, request, address) !== 0 || bytes.readInt32LE(0) !== 0) return false
  }
  return true
}
