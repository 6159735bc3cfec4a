import { type Call, type CallOptions, call } from '../call.ts'

/** Attributes of sched_setattr(2); what is left out is 0. */
export interface SchedulingAttributes {
  /** Number of the policy: SCHED_OTHER is 0. */
  readonly policy: number
  readonly flags?: number
  readonly nice?: number
  readonly priority?: number
  /** Nanoseconds, for the deadline policy. */
  readonly runtime?: bigint
  readonly deadline?: bigint
  readonly period?: bigint
}

/** sched_setattr(2) of the calling thread. */
export function schedSetattr(attributes: SchedulingAttributes, options?: CallOptions): Call {
  const { policy, flags = 0, nice = 0, priority = 0, runtime = 0n, deadline = 0n, period = 0n } = attributes
  // With the two clamps that Linux 5.3 appended, which stay 0.
  const struct = Buffer.alloc(56)
  struct.writeUInt32LE(struct.length, 0)
  struct.writeUInt32LE(policy, 4)
  struct.writeBigUInt64LE(BigInt(flags), 8)
  struct.writeInt32LE(nice, 16)
  struct.writeUInt32LE(priority, 20)
  struct.writeBigUInt64LE(runtime, 24)
  struct.writeBigUInt64LE(deadline, 32)
  struct.writeBigUInt64LE(period, 40)
  return call('sched_setattr', [0, struct, 0], options)
}

const IOPRIO_WHO_PROCESS = 1
const classShift = 13

/** ioprio_set(2) of the calling thread: a class (1 real-time, 2 best effort, 3 idle) and a level from 0 to 7. */
export function ioprioSet(ioClass: number, level: number, options?: CallOptions): Call {
  return call('ioprio_set', [IOPRIO_WHO_PROCESS, 0, (ioClass << classShift) | level], options)
}

/** set_mempolicy(2): `mode` with its flags, and the numbers of the nodes. */
export function setMempolicy(mode: number, nodes: readonly number[], options?: CallOptions): Call {
  const { mask, bits } = bitMask(nodes)
  // The kernel counts one bit more than it looks at (mm/mempolicy.c, get_nodes).
  return call('set_mempolicy', nodes.length === 0 ? [mode, 0, 0] : [mode, mask, bits + 1], options)
}

/** sched_setaffinity(2) of the calling thread. */
export function schedSetaffinity(cpus: readonly number[], options?: CallOptions): Call {
  const { mask } = bitMask(cpus)
  return call('sched_setaffinity', [0, mask.length, mask], options)
}

/** personality(2) of the calling process. */
export function personality(persona: number, options?: CallOptions): Call {
  return call('personality', [persona], options)
}

/** Numbers as the kernel's bitmap of unsigned longs. */
function bitMask(numbers: readonly number[]): { readonly mask: Buffer; readonly bits: number } {
  const words = Math.floor(Math.max(0, ...numbers) / 64) + 1
  const mask = Buffer.alloc(words * 8)
  for (const number of numbers) mask.writeUInt8((mask[number >> 3] ?? 0) | (1 << (number & 7)), number >> 3)
  return { mask, bits: words * 64 }
}
