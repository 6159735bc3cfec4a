import { RuntimeError } from '../errors.ts'
import type { CallOptions, Out } from '../linux/call.ts'
import type { CallRunner, Results } from '../linux/runner.ts'

/** What is looked at when the container's first process has made its mounts and devices, before it changes its root. */
export type Examination = (results: Results, runner: CallRunner) => void | Promise<void>

/** Bytes of struct statfs. */
export const statfsSize = 120
/** Bytes of struct statx. */
export const statxSize = 256

export const PROC_SUPER_MAGIC = 0x9fa0

/** Number of the kind of file system in what fstatfs(2) wrote. */
export function fileSystemKind(results: Results, statfs: Out): number {
  return results.bytes(statfs).readUInt32LE(0)
}

/** What statx(2) wrote of a file's type and device number. */
export function fileKind(results: Results, statx: Out): { mode: number; major: number; minor: number } {
  const bytes = results.bytes(statx)
  return { mode: bytes.readUInt16LE(28), major: bytes.readUInt32LE(128), minor: bytes.readUInt32LE(132) }
}

/** The error for what should not be as it was found. */
export function foundWrong(why: CallOptions, message: string, hint?: string): RuntimeError {
  const { step = '', pointer } = why
  return new RuntimeError(`${step}: ${message}`, { step, pointer, hint })
}
