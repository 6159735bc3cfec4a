import { join } from 'node:path'
import { ConflictError, InvalidArgumentError, RemoteExitError, SyscallError } from '../errors.ts'
import { SIGKILL } from '../linux/calls/processes.ts'
import type { Channel } from '../linux/remote/channel.ts'
import { connectToStart, forgetStart, keptStart } from './handover.ts'
import { signalFirstProcess } from './kill.ts'
import { type LookupOptions, statusOf } from './lookup.ts'
import { type ContainerRecord, defaultStateRoot, readRecord, StateDirectory } from './state-directory.ts'
import { stepFailed } from './step-error.ts'
import { untilEnded } from './wait.ts'

/**
 * Runs the program of a container that another process made with `handOver` (runtime-spec, runtime.md,
 * "Start"). Resolves when the kernel has accepted it.
 * @throws NotFoundError when there is none of that id. @throws ConflictError unless it is created and not
 * started. @throws RuntimeError naming the step that failed; the container then has stopped.
 */
export async function start(id: string, options: LookupOptions = {}): Promise<void> {
  const root = options.stateRoot ?? defaultStateRoot()
  const record = await readRecord(root, id)
  const status = statusOf(record)
  if (status !== 'created') throw new ConflictError(id, `container ${id} can't be started: it is ${status}`)
  const directory = record.handedOver === true ? StateDirectory.tryLock(join(root, id)) : undefined
  // Its maker holds the lock until it has handed over, and whoever else starts it, too.
  if (directory === undefined) {
    throw new ConflictError(id, `container ${id} can't be started: another process has it`)
  }
  try {
    await startHandedOver(record, directory)
  } finally {
    directory.release()
  }
}

async function startHandedOver(record: ContainerRecord, directory: StateDirectory): Promise<void> {
  const { id } = record
  const calls = keptStart(directory)
  if (calls === undefined) {
    throw new InvalidArgumentError(`container ${id} has no process to start`, { subject: '/process' })
  }
  const init = connect(record, directory)
  try {
    const started = init.run(calls)
    started.catch(() => {}) // it is looked at below, whatever comes before
    directory.write({ ...record, started: true })
    await started
  } catch (cause) {
    // On success the process is another program, and the socket is closed.
    if (!(cause instanceof RemoteExitError)) {
      signalFirstProcess(record, SIGKILL)
      await untilEnded(record, undefined)
      throw stepFailed(id, cause)
    }
  } finally {
    await init.close()
    forgetStart(directory)
  }
}

function connect(record: ContainerRecord, directory: StateDirectory): Channel {
  try {
    return connectToStart(directory)
  } catch (cause) {
    if (!(cause instanceof SyscallError)) throw cause
    const { id } = record
    throw new ConflictError(id, `container ${id} can't be started: its first process does not wait for it`, { cause })
  }
}
