import type { Condition } from './rules.ts'

/**
 * Calls of i386 that can be made through another one too, which takes their number as its first
 * argument and their arguments in memory (include/uapi/linux/net.h, ipc.h).
 */
const socketcall = 102
const socketcalls: ReadonlyMap<string, number> = new Map([
  ['socket', 1],
  ['bind', 2],
  ['connect', 3],
  ['listen', 4],
  ['accept', 5],
  ['getsockname', 6],
  ['getpeername', 7],
  ['socketpair', 8],
  ['send', 9],
  ['recv', 10],
  ['sendto', 11],
  ['recvfrom', 12],
  ['shutdown', 13],
  ['setsockopt', 14],
  ['getsockopt', 15],
  ['sendmsg', 16],
  ['recvmsg', 17],
  ['accept4', 18],
  ['recvmmsg', 19],
  ['sendmmsg', 20],
])

const ipc = 117
const ipcs: ReadonlyMap<string, number> = new Map([
  ['semop', 1],
  ['semget', 2],
  ['semctl', 3],
  ['semtimedop', 4],
  ['msgsnd', 11],
  ['msgrcv', 12],
  ['msgget', 13],
  ['msgctl', 14],
  ['shmat', 21],
  ['shmdt', 22],
  ['shmget', 23],
  ['shmctl', 24],
])

/** The call through which a call of i386 can be made too, and the condition that picks it there. */
export interface Multiplexed {
  readonly number: number
  readonly condition: Condition
}

/** How a call of i386 can be made beside its own number, if it can. */
export function multiplexed(name: string): Multiplexed | undefined {
  const socket = socketcalls.get(name)
  if (socket !== undefined) {
    const condition = { index: 0, bits: 32, op: 'EQ', value: BigInt(socket), mask: 0xffff_ffffn } as const
    return { number: socketcall, condition }
  }
  const sub = ipcs.get(name)
  if (sub === undefined) return undefined
  // The upper half is the version of the interface, which the kernel takes apart from the number.
  return { number: ipc, condition: { index: 0, bits: 32, op: 'MASKED_EQ', value: BigInt(sub), mask: 0xffffn } }
}
