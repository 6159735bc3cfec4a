import { closeSync } from 'node:fs'
import type { CallOptions } from '../linux/call.ts'
import { sendDescriptor } from '../linux/calls/descriptor-messages.ts'
import { SOCK_CLOEXEC, SOCK_STREAM, socket } from '../linux/calls/processes.ts'
import { connectTo } from '../linux/calls/sockets.ts'
import { perform } from '../linux/local.ts'

const AF_UNIX = 1

/**
 * Sends a descriptor to whoever listens at a path, as runc does: one message with a name and the descriptor.
 * @throws SyscallError when nobody listens there.
 */
export function sendToSocket(path: string, fd: number, name: string, why: CallOptions): void {
  const connection = perform(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, why))
  try {
    perform(connectTo(connection, path, why))
    perform(sendDescriptor(connection, fd, name, why))
  } finally {
    closeSync(connection)
  }
}

/** Sends the descriptor that stands for a process (pidfd_open(2)); `standard` is a first process, `setns` one that entered. */
export function sendPidfd(path: string | undefined, pidfd: number, kind: 'standard' | 'setns'): void {
  if (path !== undefined) sendToSocket(path, pidfd, kind, { step: 'hand over the pidfd' })
}
