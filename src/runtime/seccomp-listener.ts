import { closeSync, openSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import type { Spec } from '../bundle/spec.ts'
import type { ContainerProcessState, State } from '../bundle/state.ts'
import { RuntimeError } from '../errors.ts'
import type { Call, CallOptions } from '../linux/call.ts'
import { close, dup3, O } from '../linux/calls/files.ts'
import { SOCK_CLOEXEC, SOCK_STREAM, socket } from '../linux/calls/processes.ts'
import { connectTo, sendDescriptors } from '../linux/calls/sockets.ts'
import { perform } from '../linux/local.ts'
import { bearing, type FilterMark } from '../linux/seccomp/mark.ts'

/** Version of the runtime-spec that the container process state follows. */
const stateVersion = '1.3.0'
const AF_UNIX = 1
const why: CallOptions = { step: 'hand over the seccomp listener', pointer: '/linux/seccomp/listenerPath' }

/** Who is told of the system calls that a filter passes on (config-linux.md, "The Container Process State"). */
export interface SeccompListener {
  /** Number of the connected socket in the process that loads the filter; the next one is free there. */
  readonly socket: number
  /** State of the container, but for what is known only when its process is there. */
  readonly state: Omit<State, 'pid'>
  readonly metadata: string | undefined
}

/** The listener of a config whose profile has SCMP_ACT_NOTIFY. */
export function listenerOf(
  spec: Spec,
  container: Pick<State, 'id' | 'bundle' | 'status'>,
  socket: number,
): SeccompListener {
  const { ociVersion, annotations, linux } = spec
  const { id, bundle, status } = container
  const state = { ociVersion, id, status, bundle, ...(annotations === undefined ? {} : { annotations }) }
  return { socket, state, metadata: linux?.seccomp?.listenerMetadata }
}

/**
 * Connects to `linux.seccomp.listenerPath`. The connection is handed to the process that loads the filter, which can't
 * reach the path any more.
 * @throws RuntimeError when nobody listens there.
 */
export function connectListener(path: string): number {
  const step = 'connect to the seccomp listener'
  let directory: number | undefined
  const fd = perform(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, { step }))
  try {
    directory = openSync(dirname(path), O.PATH)
    // Paths of sockets are short; by way of the directory's descriptor any is.
    perform(connectTo(fd, `/proc/self/fd/${directory}/${basename(path)}`, { step }))
    return fd
  } catch (cause) {
    closeSync(fd)
    const message = `no seccomp agent can be reached at ${path}`
    throw new RuntimeError(message, { step, pointer: why.pointer, subject: path, cause })
  } finally {
    if (directory !== undefined) closeSync(directory)
  }
}

/**
 * The calls that send the listener of the filter that was just loaded, and forget both. They are subject to the filter.
 * @param pids of the container's first process and of the one that the filter is for
 * @param mark by which the filter lets them through, if it does
 */
export function announceCalls(
  listener: Call,
  to: SeccompListener,
  pids: { readonly container: number; readonly process: number },
  mark: FilterMark | undefined,
): readonly Call[] {
  const fd = to.socket + 1
  const message: ContainerProcessState = {
    ociVersion: stateVersion,
    fds: ['seccompFd'],
    pid: pids.process,
    ...(to.metadata === undefined ? {} : { metadata: to.metadata }),
    state: { ...to.state, pid: pids.container },
  }
  // Its number is part of the message, and has to be known before. It may be that one already.
  const moved = dup3(listener, fd, O.CLOEXEC, { ...why, tolerate: 'EINVAL' })
  const sent = sendDescriptors(to.socket, JSON.stringify(message), [fd], why)
  return [
    ...[moved, sent].map((call) => (mark === undefined ? call : bearing(call, mark))),
    close(listener, why),
    close(fd, { ...why, tolerate: 'EBADF' }),
    close(to.socket, why),
  ]
}

/** System calls of {@link announceCalls}: nobody is there yet to answer for them. */
export const announcing: readonly string[] = ['dup3', 'sendmsg']
