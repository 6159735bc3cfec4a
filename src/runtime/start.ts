import { closeSync } from 'node:fs'
import { join } from 'node:path'
import type { Spec } from '../bundle/spec.ts'
import { ConflictError, InvalidArgumentError, SyscallError } from '../errors.ts'
import { delay } from '../internal/abort.ts'
import { SIGKILL } from '../linux/calls/processes.ts'
import type { Channel } from '../linux/remote/channel.ts'
import { connectToStart, forgetStart, keptStart } from './handover.ts'
import { hasHooks, runHooks } from './hooks.ts'
import { openFirstProcess, signalFirstProcess } from './kill.ts'
import { type LookupOptions, statusOf } from './lookup.ts'
import { type ContainerRecord, defaultStateRoot, readConfig, readRecord, StateDirectory } from './state-directory.ts'
import { stepFailed } from './step-error.ts'
import { untilEnded } from './wait.ts'

/**
 * Runs the program of a container that another process made with `handOver` (runtime-spec, runtime.md,
 * "Start"). Resolves when the kernel has accepted it.
 * @throws NotFoundError when there is none of that id. @throws ConflictError unless it is created and not
 * started, or when another process has it for longer than a second. @throws RuntimeError naming the step that failed; the
 * container then has stopped.
 */
export async function start(id: string, options: LookupOptions = {}): Promise<void> {
  const root = options.stateRoot ?? defaultStateRoot()
  const { record, directory } = await take(root, id)
  try {
    await startHandedOver(record, await readConfig(root, id), directory)
  } finally {
    directory.release()
  }
}

/** Milliseconds that a lock is waited for. */
const patience = 1000

/** Takes the container, in which whoever asks whether it is abandoned has the lock for a moment. */
async function take(
  root: string,
  id: string,
): Promise<{ readonly record: ContainerRecord; readonly directory: StateDirectory }> {
  for (const end = Date.now() + patience; ; await delay(10)) {
    const record = await readRecord(root, id)
    const status = statusOf(record)
    if (status !== 'created') throw new ConflictError(id, `container ${id} can't be started: it is ${status}`)
    const directory = record.handedOver === true ? StateDirectory.tryLock(join(root, id)) : undefined
    if (directory !== undefined) {
      // Whoever had it before may have started or removed it.
      if ((await readRecord(root, id).catch(() => undefined))?.started === false) return { record, directory }
      directory.release()
      continue
    }
    // Its maker holds the lock until it has handed over, and whoever else starts it, too.
    if (record.handedOver !== true || Date.now() > end) {
      throw new ConflictError(id, `container ${id} can't be started: another process has it`)
    }
  }
}

async function startHandedOver(record: ContainerRecord, spec: Spec, directory: StateDirectory): Promise<void> {
  const { id } = record
  const calls = keptStart(directory)
  if (calls === undefined) {
    throw new InvalidArgumentError(`container ${id} has no process to start`, { subject: '/process' })
  }
  const init = connect(record, directory)
  try {
    await hook('startContainer', record, spec)
    const started = init.become(calls)
    started.catch(() => {}) // it is looked at below, whatever comes before
    directory.tellStarted()
    await started
  } catch (cause) {
    throw await startFailed(record, cause)
  } finally {
    await init.close()
    forgetStart(directory)
  }
  await hook('poststart', record, spec).catch(async (cause: unknown) => {
    throw await startFailed(record, cause)
  })
}

async function hook(kind: 'startContainer' | 'poststart', record: ContainerRecord, spec: Spec): Promise<void> {
  if (!hasHooks(kind, spec)) return
  const pidfd = openFirstProcess(record)
  try {
    await runHooks(kind, { record, spec, pidfd })
  } finally {
    if (pidfd !== undefined) closeSync(pidfd)
  }
}

/** Ends the container. @returns the error that tells why. */
async function startFailed(record: ContainerRecord, cause: unknown): Promise<unknown> {
  signalFirstProcess(record, SIGKILL)
  await untilEnded(record, undefined)
  return stepFailed(record.id, cause)
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
