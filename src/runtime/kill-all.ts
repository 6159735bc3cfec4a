import { ConflictError } from '../errors.ts'
import { kill as killProcess, SIGKILL } from '../linux/calls/processes.ts'
import { perform } from '../linux/local.ts'
import { thawV1 } from './cgroups/freezer.ts'
import { locateCgroup } from './cgroups/location.ts'
import { cgroupProcesses } from './cgroups/members.ts'
import { killMembers } from './cgroups/remove.ts'
import type { LookupOptions } from './lookup.ts'
import { signalNumber } from './processes.ts'
import { type ContainerRecord, defaultStateRoot, readRecord } from './state-directory.ts'

/**
 * Sends a signal to all processes of a container of any process, also to those that it left behind when its first one
 * ended.
 * @throws NotFoundError when there is none of that id. @throws ConflictError when no process is left.
 * @throws InvalidArgumentError for what is no signal.
 */
export async function killAll(
  id: string,
  signal: string | number = 'SIGTERM',
  options: LookupOptions = {},
): Promise<void> {
  await killAllOf(await readRecord(options.stateRoot ?? defaultStateRoot(), id), signal)
}

/** As {@link killAll}. */
export async function killAllOf({ id, cgroups }: ContainerRecord, signal: string | number): Promise<void> {
  const number = signalNumber(signal)
  const location = locateCgroup(cgroups)
  const pids = await cgroupProcesses(location)
  if (pids.length === 0) throw new ConflictError(id, `container ${id} is not running`)
  const { v2 } = location
  // At once where that can be: nobody escapes by a fork.
  if (number === SIGKILL && v2 !== undefined) await killMembers(v2)
  for (const pid of pids) perform(killProcess(pid, number, { tolerate: 'ESRCH' }))
  if (number === SIGKILL) await thawV1(location)
}
