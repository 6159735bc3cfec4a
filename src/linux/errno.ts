import { constants } from 'node:os'
import { getSystemErrorMap } from 'node:util'
import { SyscallError } from '../errors.ts'
import { quote } from '../internal/text.ts'
import type { Call } from './call.ts'

/** What Node's own table lacks of Linux (include/uapi/asm-generic/errno.h): name, number and text. */
const others: Readonly<Record<string, readonly [number: number, text: string]>> = {
  ENOEXEC: [8, 'exec format error'],
  ECHILD: [10, 'no child processes'],
  ENOTBLK: [15, 'block device required'],
  EDOM: [33, 'numerical argument out of domain'],
  EDEADLK: [35, 'resource deadlock avoided'],
  ENOLCK: [37, 'no locks available'],
  ENOMSG: [42, 'no message of desired type'],
  EIDRM: [43, 'identifier removed'],
  ELNRNG: [48, 'link number out of range'],
  ENOSTR: [60, 'device not a stream'],
  ETIME: [62, 'timer expired'],
  ENOSR: [63, 'out of streams resources'],
  ENONET: [64, 'machine is not on the network'],
  EREMOTE: [66, 'object is remote'],
  ENOLINK: [67, 'link has been severed'],
  EMULTIHOP: [72, 'multihop attempted'],
  EBADMSG: [74, 'bad message'],
  ENOTUNIQ: [76, 'name not unique on network'],
  EBADFD: [77, 'descriptor in bad state'],
  EUSERS: [87, 'too many users'],
  ESOCKTNOSUPPORT: [94, 'socket type not supported'],
  EOPNOTSUPP: [95, 'operation not supported'], // Node's text speaks of sockets
  ENETRESET: [102, 'network dropped connection on reset'],
  ESHUTDOWN: [108, 'cannot send after shutdown'],
  ETOOMANYREFS: [109, 'too many references'],
  EHOSTDOWN: [112, 'host is down'],
  ESTALE: [116, 'stale file handle'],
  EUCLEAN: [117, 'structure needs cleaning'],
  EREMOTEIO: [121, 'remote i/o error'],
  EDQUOT: [122, 'disk quota exceeded'],
  ENOMEDIUM: [123, 'no medium found'],
  EMEDIUMTYPE: [124, 'wrong medium type'],
  ENOKEY: [126, 'required key not available'],
  EKEYEXPIRED: [127, 'key has expired'],
  EKEYREVOKED: [128, 'key has been revoked'],
  EKEYREJECTED: [129, 'key was rejected'],
  ERFKILL: [132, 'operation not possible due to rf-kill'],
  EHWPOISON: [133, 'memory page has hardware error'],
}

/** Number of an errno name such as `ENOENT`; undefined when this platform has none of that name. */
export function errnoNumber(name: string): number | undefined {
  const known: Readonly<Record<string, number>> = constants.errno
  if (Object.hasOwn(known, name)) return known[name]
  return Object.hasOwn(others, name) ? others[name]?.[0] : undefined
}

/** Name of a positive errno number; `errno 4095` for one that has none. */
export function errnoName(errno: number): string {
  for (const [name, number] of Object.entries(constants.errno)) {
    // EWOULDBLOCK and EAGAIN are one number, ENOTSUP and EOPNOTSUPP too; the kernel's documentation has these.
    if (number === errno && name !== 'EWOULDBLOCK' && name !== 'ENOTSUP') return name
  }
  for (const [name, [number]] of Object.entries(others)) if (number === errno) return name
  return `errno ${errno}`
}

/** The error for a call that the kernel refused with `errno` (positive). */
export function syscallError(call: Call, errno: number): SyscallError {
  const name = errnoName(errno)
  const text = others[name]?.[1] ?? getSystemErrorMap().get(-errno)?.[1] ?? 'no description'
  const about = call.path === undefined ? '' : ` ${quote(call.path)}`
  const step = call.step === undefined ? '' : `${call.step}: `
  return new SyscallError(`${step}${call.name}${about}: ${text} (${name})`, {
    syscall: call.name,
    errno,
    errnoName: name,
    path: call.path,
    step: call.step,
    pointer: call.pointer,
  })
}
