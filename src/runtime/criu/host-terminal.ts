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
import { hostUid } from '../cgroups/owner.ts'
import { keepGroup } from '../terminal-calls.ts'
import type { TerminalNote } from './options.ts'

const why = { step: 'make the terminal', pointer: '/process/terminal' }

/**
 * A terminal for a container that is restored, in the place of the one that it had. It is one of the host: the devpts of the container is not there before the
 * container is.
 */
export class HostTerminal {
  /** The outer side; -1 when somebody has taken it. */
  private master: number
  /** The inner side, for the container. */
  readonly slave: number
  /** Where the inner side is. */
  readonly path: string

  /** @param state as the one was that it stands for */
  constructor(spec: Spec, state: TerminalNote) {
    this.master = perform(openat(AT_FDCWD, '/dev/ptmx', O.RDWR | O.NOCTTY | O.CLOEXEC, 0, why))
    try {
      perform(unlockTerminal(this.master, why))
      this.slave = perform(openTerminalPeer(this.master, why))
    } catch (cause) {
      closeSync(this.master)
      throw cause
    }
    try {
      this.path = readlinkSync(`/proc/self/fd/${this.slave}`)
      const modes = Buffer.alloc(terminalModesBytes)
      Buffer.from(state.modes, 'base64').copy(modes)
      perform(setTerminalModes(this.slave, modes, why))
      perform(setTerminalSize(this.slave, state.columns, state.rows, why))
      perform(fchown(this.slave, hostUid(spec) ?? 0, keepGroup, why))
    } catch (cause) {
      this.close()
      throw cause
    }
  }

  /** Gives the outer side away: whoever asks closes it. To be called once. */
  take(): number {
    const { master } = this
    this.master = -1
    return master
  }

  /** Closes what is still here. To be called once. */
  close(): void {
    closeSync(this.slave)
    if (this.master >= 0) closeSync(this.master)
  }
}
