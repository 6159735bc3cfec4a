import { closeSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ConflictError, type ExitStatus, UnsupportedError } from '../errors.ts'
import { delay, untilAborted } from '../internal/abort.ts'
import { POLLIN, waitForEvent } from '../linux/calls/processes.ts'
import { Remote } from '../linux/remote/remote.ts'
import { killedWithMonitor, recordedExit, recordedUsage } from './exit.ts'
import { openFirstProcess } from './kill.ts'
import type { LookupOptions } from './lookup.ts'
import type { ResourceUsage } from './resource-usage.ts'
import { type ContainerRecord, defaultStateRoot, readRecord, StateDirectory } from './state-directory.ts'

/** Options of {@link wait}. */
export interface WaitOptions extends LookupOptions {
  /** Aborting rejects with `signal.reason`; the container goes on. */
  readonly signal?: AbortSignal | undefined
}

/**
 * Waits for the end of a container of any process. It can be asked for until the container is deleted.
 * @throws NotFoundError when there is none of that id. @throws ConflictError when it is still being made.
 * @throws UnsupportedError when it was handed over.
 */
export async function wait(id: string, options: WaitOptions = {}): Promise<ExitStatus> {
  const root = options.stateRoot ?? defaultStateRoot()
  const record = await readRecord(root, id)
  if (record.pid === 0) throw new ConflictError(id, `container ${id} is still being made`)
  if (record.handedOver === true) {
    throw new UnsupportedError(`waiting for container ${id}`, 'it was handed over: only its parent learns how it ends')
  }
  await untilEnded(record, options.signal)
  return endOf(root, id, options.signal)
}

/**
 * What a container of any process used: its first process and those that this waited for. Waits for its end.
 * Undefined when its monitor was killed with it, and nobody can tell.
 * @throws as {@link wait} does.
 */
export async function usage(id: string, options: WaitOptions = {}): Promise<ResourceUsage | undefined> {
  await wait(id, options)
  const path = join(options.stateRoot ?? defaultStateRoot(), id, 'exit')
  const record = await readFile(path).catch(() => undefined)
  return record === undefined ? undefined : recordedUsage(record)
}

/** Waits until the first process has ended. */
export async function untilEnded(record: ContainerRecord, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted()
  const pidfd = openFirstProcess(record)
  if (pidfd === undefined) return
  const watcher = 10
  let remote: Remote
  try {
    remote = Remote.spawn({ descriptors: new Map([[watcher, pidfd]]) })
  } finally {
    closeSync(pidfd)
  }
  try {
    const ended = remote.run([waitForEvent([{ fd: watcher, events: POLLIN }])])
    await untilAborted(ended, signal)
  } finally {
    await remote.close()
  }
}

/** Reads what the monitor recorded: it does so when the process has ended, and lives until it has. */
export async function endOf(root: string, id: string, signal?: AbortSignal): Promise<ExitStatus> {
  const path = join(root, id)
  for (let pause = 1; ; pause = Math.min(pause * 2, 100)) {
    const known = await recorded(path)
    if (known !== undefined) return known
    const unwatched = StateDirectory.tryLock(path)
    unwatched?.release()
    // Nobody will record it any more; it may have been done between the two looks.
    if (unwatched !== undefined) return (await recorded(path)) ?? killedWithMonitor
    await readRecord(root, id)
    await delay(pause, signal)
  }
}

async function recorded(path: string): Promise<ExitStatus | undefined> {
  const record = await readFile(join(path, 'exit')).catch(() => undefined)
  return record === undefined ? undefined : recordedExit(record)
}
