import type { Process } from '../bundle/spec-process.ts'
import type { Call, CallOptions } from '../linux/call.ts'
import { sendDescriptor } from '../linux/calls/descriptor-messages.ts'
import {
  AT_FDCWD,
  close,
  dup3,
  fchown,
  mknodat,
  O,
  O_DIRECTORY,
  openat2,
  RESOLVE,
  S_IFREG,
} from '../linux/calls/files.ts'
import { attachMount, cloneTree } from '../linux/calls/mounts.ts'
import { openTerminalPeer, setControllingTerminal, setTerminalSize, unlockTerminal } from '../linux/calls/terminals.ts'

const why: CallOptions = { step: 'make the terminal', pointer: '/process/terminal' }
/** The gid that leaves the group as it is (chown(2): -1). */
export const keepGroup: number = 2 ** 32 - 1
const device = '/dev/pts/ptmx'

/** Numbers of descriptors. */
export interface TerminalDescriptors {
  /** The socket that the other side of the terminal is sent through; it is closed then. */
  readonly socket: number
  /** Any that is free. */
  readonly master: number
}

/**
 * The calls that make a terminal of the container's own devpts and put it in the place of 0, 1 and 2. They are
 * made inside of the container's root. Nothing is found by its name but the multiplexer, which is no
 * terminal unless the kernel makes one of it (CVE-2025-52565).
 */
export function terminalCalls(process: Process, { socket, master }: TerminalDescriptors): readonly Call[] {
  const opened = openat2(AT_FDCWD, device, { flags: O.RDWR | O.NOCTTY, resolve: noLinks }, why)
  const slave = openTerminalPeer(opened, why)
  const size = process.consoleSize
  const sized = { ...why, pointer: '/process/consoleSize' }
  return [
    opened,
    unlockTerminal(opened, why),
    slave,
    ...(size === undefined ? [] : [setTerminalSize(opened, size.width, size.height, sized)]),
    // Whoever the program is, the terminal is its own.
    fchown(slave, process.user?.uid ?? 0, keepGroup, why),
    dup3(opened, master, O.CLOEXEC, why),
    close(opened, why),
    sendDescriptor(socket, master, device, why),
    close(master, why),
    close(socket, why),
    ...[0, 1, 2].map((standard) => dup3(slave, standard, 0, why)),
    close(slave, why),
  ]
}

const noLinks = RESOLVE.IN_ROOT | RESOLVE.NO_SYMLINKS

/** Binds the terminal, which is open as 0, over /dev/console: by descriptor, and over no symbolic link. */
export function consoleCalls(): readonly Call[] {
  const step = { ...why, step: 'make /dev/console' }
  const dev = openat2(AT_FDCWD, '/dev', { flags: O.PATH | O_DIRECTORY, resolve: noLinks }, step)
  const target = openat2(dev, 'console', { flags: O.PATH, resolve: RESOLVE.NO_SYMLINKS }, step)
  const tree = cloneTree(0, '', false, step)
  return [
    dev,
    mknodat(dev, 'console', S_IFREG | 0o620, 0, { ...step, tolerate: 'EEXIST' }),
    target,
    tree,
    attachMount(tree, target, step),
    close(tree, step),
    close(target, step),
    close(dev, step),
  ]
}

/** Makes the terminal that is open as 0 the controlling one of the calling session leader. */
export function controlCalls(): readonly Call[] {
  return [setControllingTerminal(0, { ...why, step: 'take the terminal' })]
}
