import { closeSync } from 'node:fs'
import { RuntimeError } from '../errors.ts'
import { descriptorOut, receivedDescriptor, receiveMessage } from '../linux/calls/descriptor-messages.ts'
import { performFor } from '../linux/local.ts'
import { socketPair } from '../linux/remote/remote.ts'
import { sendToSocket } from './descriptor-socket.ts'
import { Terminal } from './terminal.ts'

const why = { step: 'hand over the terminal', pointer: '/process/terminal' }

/** Gives a terminal to whoever listens at `consoleSocket`, or makes it one of this process. */
export function deliverTerminal(fd: number, consoleSocket: string | undefined): Terminal | undefined {
  if (consoleSocket === undefined) return new Terminal(fd)
  try {
    // As runc names it (docs/terminals.md there).
    sendToSocket(consoleSocket, fd, '/dev/pts/ptmx', why)
  } finally {
    closeSync(fd)
  }
  return undefined
}

/** How a terminal that is made in a container gets out of it. */
export class TerminalLink {
  private readonly here: number
  private theirs: number | undefined

  constructor() {
    const { here, there } = socketPair()
    this.here = here
    this.theirs = there
  }

  /** Descriptor for the process that makes the terminal. */
  get there(): number {
    return this.theirs as number
  }

  /** Closes that descriptor here. Idempotent. */
  handOver(): void {
    if (this.theirs !== undefined) closeSync(this.theirs)
    this.theirs = undefined
  }

  /**
   * Takes the terminal, which is there once it is made.
   * @param consoleSocket Path of a socket of somebody else who gets it instead.
   * @throws SyscallError when nobody listens there.
   */
  receive(consoleSocket: string | undefined): Terminal | undefined {
    return deliverTerminal(this.take(), consoleSocket)
  }

  /** Closes both ends; to be called once. */
  close(): void {
    this.handOver()
    closeSync(this.here)
  }

  private take(): number {
    const control = descriptorOut()
    const fd = receivedDescriptor(performFor(receiveMessage(this.here, control, why)).bytes(control))
    if (fd === undefined) throw new RuntimeError('the terminal of the container did not arrive', why)
    return fd
  }
}
