import { closeSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { deserialize, serialize } from 'node:v8'
import { hostArchitecture } from '../linux/architecture.ts'
import type { Call } from '../linux/call.ts'
import { close, dup3, O } from '../linux/calls/files.ts'
import { SOCK_CLOEXEC, SOCK_STREAM, socket } from '../linux/calls/processes.ts'
import { accept, bindTo, connectTo, listen } from '../linux/calls/sockets.ts'
import { perform } from '../linux/local.ts'
import { replySize } from '../linux/remote/answer.ts'
import { Channel } from '../linux/remote/channel.ts'
import type { ContainerParts } from './container-parts.ts'
import type { StateDirectory } from './state-directory.ts'

/**
 * How a created container is started by another process than its maker: the first process waits for a
 * connection to a socket in the state directory, and takes that for the socket of its batches. The last batch
 * lies beside it, as data: config.json may be another one by then.
 */

const AF_UNIX = 1
const step = 'wait for the start'

/** A path to a file of the directory that is short enough for the address of a socket. */
function shortPath(directory: StateDirectory, name: string): string {
  return `/proc/self/fd/${directory.lock}/${name}`
}

/** Makes the socket that the first process will wait at. @returns its descriptor. */
export function listenForStart(directory: StateDirectory): number {
  const fd = perform(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, { step }))
  try {
    perform(bindTo(fd, shortPath(directory, 'start.sock'), { step }))
    perform(listen(fd, 1, { step }))
    return fd
  } catch (cause) {
    closeSync(fd)
    throw cause
  }
}

/** The batch with which the first process waits: its answer goes to who starts it. */
function awaitStartCalls(listener: number, channel: number): readonly Call[] {
  const accepted = accept(listener, { step })
  return [accepted, dup3(accepted, channel, O.CLOEXEC, { step }), close(accepted), close(listener)]
}

const greeting = replySize(awaitStartCalls(0, 0).length)

/** Keeps the batch that starts the program for the process that will hand it over. */
function keepStart(directory: StateDirectory, calls: readonly Call[]): void {
  writeFileSync(join(directory.path, 'start'), serialize(calls), { mode: 0o600 })
}

/** The batch that {@link keepStart} kept; undefined when there is none: the config has no process. */
export function keptStart(directory: StateDirectory): readonly Call[] | undefined {
  try {
    return deserialize(readFileSync(join(directory.path, 'start'))) as readonly Call[]
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw cause
  }
}

/** Gets hold of a first process that waits. @throws SyscallError (ECONNREFUSED, ENOENT) when none does. */
export function connectToStart(directory: StateDirectory): Channel {
  const why = { step: 'start the container' }
  const fd = perform(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, why))
  try {
    perform(connectTo(fd, shortPath(directory, 'start.sock'), why))
  } catch (cause) {
    closeSync(fd)
    throw cause
  }
  return new Channel(fd, { architecture: hostArchitecture(), outlive: true, greeting })
}

/** Removes what a started container needs no more. */
export function forgetStart(directory: StateDirectory): void {
  for (const name of ['start.sock', 'start']) rmSync(join(directory.path, name), { force: true })
}

/** Has the first process wait for its start, and ends the monitor: its child then is one of the nearest subreaper. */
export async function leaveToParent(parts: ContainerParts, isStarted: boolean): Promise<void> {
  const { init, monitor, plan, program, directory, record } = parts
  if (isStarted) forgetStart(directory)
  else {
    if (plan.start !== undefined) keepStart(directory, plan.start(program, record.pid))
    // It answers to who starts the container.
    init.post(awaitStartCalls(plan.channel + 1, plan.channel))
  }
  await monitor.close()
}
