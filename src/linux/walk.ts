import { SyscallError } from '../errors.ts'
import type { Call } from './call.ts'
import { perform } from './local.ts'
import { interruptionOf, resume } from './resume.ts'
import type { CallRunner, Results } from './runner.ts'

/** How often one walk is tried; as libpathrs has it. */
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

/** Runs a batch in which any openat2(2) that was disturbed is tried again; then it goes on from there. */
export async function runWalk(runner: CallRunner, calls: readonly Call[]): Promise<Results> {
  let made = runner.run(calls)
  let position = -1
  let tries = 0
  for (;;) {
    try {
      return await made
    } catch (error) {
      const interruption = interruptionOf(error)
      if (interruption === undefined || !isDisturbed(error)) throw error
      tries = interruption.position === position ? tries + 1 : 1
      if (tries === maxTries) throw error
      position = interruption.position
      made = resume(runner, interruption)
    }
  }
}
