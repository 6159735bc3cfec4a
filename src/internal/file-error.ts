import { OciError, SyscallError } from '../errors.ts'

/**
 * A failure of `node:fs` as one of the family: what was being done, to what, and why it failed.
 * Anything else is returned as it is.
 */
export function fileError(error: unknown, doing: string, subject?: string): unknown {
  if (!(error instanceof Error) || error instanceof OciError || !('syscall' in error) || !('errno' in error))
    return error
  const { syscall, errno, code, path } = error as NodeJS.ErrnoException
  if (syscall === undefined || errno === undefined || code === undefined) return error
  const hint = code === 'ENOSPC' || code === 'EDQUOT' ? 'There is no space left on the device.' : undefined
  return new SyscallError(`${doing}: ${error.message}`, {
    syscall,
    errno: Math.abs(errno),
    errnoName: code,
    path,
    subject,
    hint,
    cause: error,
  })
}

/** Whether an error of `node:fs` has this code: `ENOENT`, `EEXIST`, … */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
