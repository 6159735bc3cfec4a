import type { Call, CallOptions } from '../linux/call.ts'
import { AT_FDCWD, close, O, O_DIRECTORY, openat, openat2, RESOLVE, write } from '../linux/calls/files.ts'

/** A setting that is made by writing to a file of /proc. */
export interface ProcWrite {
  /** Relative to /proc. */
  readonly path: string
  readonly value: string
  readonly pointer: string
  /** Default `set /proc/<path>`. */
  readonly step?: string | undefined
}

/**
 * The calls that write to files of the host's /proc. They are made before anything of the container is mounted,
 * so nothing of it can stand where they write; that no other mount stands there either the kernel
 * makes sure of (CVE-2019-16884, CVE-2025-52881).
 */
export function procWrites(writes: readonly ProcWrite[]): readonly Call[] {
  if (writes.length === 0) return []
  const why = { step: 'open /proc' }
  const proc = openat(AT_FDCWD, '/proc', O.PATH | O_DIRECTORY, 0, why)
  return [proc, ...writes.flatMap((each) => procWrite(proc, each)), close(proc)]
}

function procWrite(proc: Call, { path, value, pointer, step = `set /proc/${path}` }: ProcWrite): readonly Call[] {
  const why: CallOptions = { step, pointer }
  const resolve = RESOLVE.BENEATH | RESOLVE.NO_XDEV | RESOLVE.NO_MAGICLINKS
  const file = openat2(proc, path, { flags: O.WRONLY, resolve }, why)
  return [file, write(file, value, why), close(file)]
}
