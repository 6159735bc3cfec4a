import { TimeoutError } from '../../errors.ts'
import { delay } from '../../internal/abort.ts'
import { out } from '../call.ts'
import { WNOHANG, wait4 } from '../calls/processes.ts'
import { perform } from '../local.ts'

/** Children that nobody waits for; a child stays in the process table until its parent has asked how it ended. */
const orphans = new Set<number>()

/** Removes a child from the process table when it has ended. @returns whether it is gone. */
function isGone(pid: number): boolean {
  return perform(wait4(pid, out(4), WNOHANG, { tolerate: 'ECHILD' })) !== 0
}

/**
 * Waits for the end of a killed child and removes it from the process table.
 * @throws TimeoutError after about two seconds: it hangs in the kernel, or in a frozen cgroup.
 */
export async function reap(pid: number): Promise<void> {
  let waited = 0
  for (let pause = 1; pause <= 1024; pause *= 2) {
    if (isGone(pid)) return
    await delay(pause)
    waited += pause
  }
  if (isGone(pid)) return
  orphans.add(pid)
  throw new TimeoutError(`ending the remote process ${pid}`, waited)
}

/**
 * Removes a killed child from the process table some time soon; that does not keep this process alive. What
 * has not ended after two seconds is left to a later {@link reapOrphans}.
 */
export function reapSoon(pid: number, pause = 1): void {
  if (isGone(pid)) return
  if (pause > 1024) orphans.add(pid)
  else setTimeout(reapSoon, pause, pid, pause * 2).unref()
}

/** Leaves a child to {@link reapOrphans}: it lives as long as it likes. */
export function orphan(pid: number): void {
  orphans.add(pid)
}

/** Removes the orphans that have ended from the process table. */
export function reapOrphans(): void {
  for (const pid of orphans) if (isGone(pid)) orphans.delete(pid)
}
