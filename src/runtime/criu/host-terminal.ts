import { closeSync, readlinkSync } from 'node:fs'
import type { Spec } from '../../bundle/spec.ts'
import { AT_FDCWD, fchown, O, openat } from '../../linux/calls/files.ts'
import {
  openTerminalPeer,
  setTerminalModes,
  setTerminalSize,
  terminalModesBytes,
  unlockTerminal,
} from '../../linux/calls/terminals.ts'
import { perform } from '../../linux/local.ts'
import { hostUid } from '../host-uid.ts'
import { keepGroup } from '../terminal-calls.ts'
import type { TerminalNote } from './note.ts'

const why = { step: 'make the terminal', pointer: '/process/terminal' }

/**
 * A terminal for a container that is restored, in the place of the one that it had. It is one of the host: the devpts of
 * the container is not there before the container is.
 */
export class HostTerminal {
  /** The outer side, unless somebody has taken it. */
  private master: number | undefined
  /** The inner side, for the container. */
  readonly slave: number
  /** Where the inner side is. */
  readonly path: string

  /** @param state as the one was that it stands for */
  constructor(spec: Spec, state: TerminalNote) {
    const made: number[] = []
    try {
      const master = perform(openat(AT_FDCWD, '/dev/ptmx', O.RDWR | O.NOCTTY | O.CLOEXEC, 0, why))
      made.push(master)
      perform(unlockTerminal(master, why))
      const slave = perform(openTerminalPeer(master, why))
      made.push(slave)
      const modes = Buffer.alloc(terminalModesBytes)
      Buffer.from(state.modes, 'base64').copy(modes)
      perform(setTerminalModes(slave, modes, why))
      perform(setTerminalSize(slave, state.columns, state.rows, why))
      perform(fchown(slave, hostUid(spec) ?? 0, keepGroup, why))
      this.master = master
      this.slave = slave
      this.path = readlinkSync(`/proc/self/fd/${slave}`)
    } catch (cause) {
      for (const fd of made) closeSync(fd)
      throw cause
    }
  }

  /** Gives the outer side away: whoever asks closes it. To be called once. */
  take(): number {
    const { master } = this
    this.master = undefined
    return master as number
  }

  /** Closes what is still here. To be called once. */
  close(): void {
    closeSync(this.slave)
    if (this.master !== undefined) closeSync(this.master)
  }
}
