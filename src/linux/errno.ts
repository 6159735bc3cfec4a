import { constants } from 'node:os'
import { getSystemErrorMap } from 'node:util'
import { SyscallError } from '../errors.ts'
import type { Call } from './call.ts'

/** Number of an errno name such as `ENOENT`; undefined when this platform has none of that name. */
export function errnoNumber(name: string): number | undefined {
  return (constants.errno as Readonly<Record<string, number>>)[name]
}

/** Name of a positive errno number; `errno 4095` for one that has none. */
export function errnoName(errno: number): string {
  for (const [name, number] of Object.entries(constants.errno)) {
    // EWOULDBLOCK and EAGAIN are one number; the kernel's documentation says EAGAIN.
    if (number === errno && name !== 'EWOULDBLOCK' && name !== 'EOPNOTSUPP') return name
  }
  return errno === constants.errno.EOPNOTSUPP ? 'EOPNOTSUPP' : `errno ${errno}`
}

/** The error for a call that the kernel refused with `errno` (positive). */
export function syscallError(call: Call, errno: number): SyscallError {
  const name = errnoName(errno)
  const text = getSystemErrorMap().get(-errno)?.[1] ?? 'no description'
  const about = call.path === undefined ? '' : ` ${JSON.stringify(call.path)}`
  const step = call.step === undefined ? '' : `${call.step}: `
  return new SyscallError(`${step}${call.name}${about}: ${text} (${name})`, {
    syscall: call.name,
    errno,
    errnoName: name,
    path: call.path,
  })
}
