import { closeSync } from 'node:fs'
import { ConflictError, SyscallError } from '../errors.ts'
import { pidfdOpen, pidfdSendSignal, SIGKILL } from '../linux/calls/processes.ts'
import { perform } from '../linux/local.ts'
import { thawV1 } from './cgroups/freezer.ts'
import { locateCgroup } from './cgroups/location.ts'
import type { LookupOptions } from './lookup.ts'
import { isRunning, signalNumber } from './processes.ts'
import { type ContainerRecord, defaultStateRoot, readRecord } from './state-directory.ts'

/**
 * Sends a signal to the first process of a container of any process: a number, `SIGTERM` or `TERM`.
 * @throws NotFoundError when there is none of that id. @throws ConflictError when it is neither created nor running.
 * @throws InvalidArgumentError for what is no signal.
 */
export async function kill(
  id: string,
  signal: string | number = 'SIGTERM',
  options: LookupOptions = {},
): Promise<void> {
  const number = signalNumber(signal)
  const record = await readRecord(options.stateRoot ?? defaultStateRoot(), id)
  if (!signalFirstProcess(record, number)) throw new ConflictError(id, `container ${id} is not running`)
  if (number === SIGKILL) await thawV1(locateCgroup(record.cgroups))
}

/** @returns whether the first process was there to get the signal. */
export function signalFirstProcess(record: ContainerRecord, signal: number): boolean {
  const pidfd = openFirstProcess(record)
  if (pidfd === undefined) return false
  try {
    return perform(pidfdSendSignal(pidfd, signal, { tolerate: 'ESRCH' })) === 0
  } finally {
    closeSync(pidfd)
  }
}

/** Descriptor of the first process; undefined when it has ended. */
export function openFirstProcess(record: ContainerRecord): number | undefined {
  if (record.pid === 0) return undefined
  let pidfd: number
  try {
    pidfd = perform(pidfdOpen(record.pid))
  } catch (cause) {
    if (cause instanceof SyscallError && ['ESRCH', 'EINVAL'].includes(cause.errnoName)) return undefined
    throw cause
  }
  // Looked at when the descriptor is open: now the number can't become another process's any more.
  if (isRunning(record.pid, record.startTime)) return pidfd
  closeSync(pidfd)
  return undefined
}
