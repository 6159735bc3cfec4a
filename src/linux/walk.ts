import { SyscallError } from '../errors.ts'
import type { Call } from './call.ts'
import { perform } from './local.ts'
import type { CallRunner, Results } from './runner.ts'

/** How often a walk is tried again; as libpathrs has it. */
const maxTries = 128

/**
 * Whether a walk that is confined to a directory was given up because somebody anywhere on the host renamed or mounted
 * something just then, and the path has `..` in it: it may be tried again (openat2(2), EAGAIN).
 */
function isDisturbed(error: unknown): boolean {
  return error instanceof SyscallError && error.syscall === 'openat2' && error.errnoName === 'EAGAIN'
}

/** As {@link perform}, for an openat2(2): tried again when it was disturbed. */
export function performWalk(call: Call): number {
  for (let tries = 1; ; tries++) {
    try {
      return perform(call)
    } catch (error) {
      if (!isDisturbed(error) || tries === maxTries) throw error
    }
  }
}

/** Runs a batch that begins with an openat2(2), which is tried again when it was disturbed: nothing was done before it. */
export async function runWalk(runner: CallRunner, calls: readonly Call[]): Promise<Results> {
  for (let tries = 1; ; tries++) {
    try {
      return await runner.run(calls)
    } catch (error) {
      if (!isDisturbed(error) || tries === maxTries) throw error
    }
  }
}
