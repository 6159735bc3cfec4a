import type { Call, CallOptions, Out } from '../call.ts'
import { type Fd, ioctl, O } from './files.ts'

// include/uapi/asm-generic/ioctls.h, ioctl.h
const TCGETS = 0x5401
const TCSETS = 0x5402
const TIOCSCTTY = 0x540e
const TIOCGWINSZ = 0x5413
const TIOCSWINSZ = 0x5414
const TIOCSPTLCK = 0x40045431
const TIOCGPTPEER = 0x5441

/** Lets the other side of the pseudo-terminal `master` be opened (pts(4)). */
export function unlockTerminal(master: Fd, options?: CallOptions): Call {
  return ioctl(master, TIOCSPTLCK, Buffer.alloc(4), options)
}

/** Opens the other side of the pseudo-terminal `master`, by no name (Linux 4.13). Close-on-exec. */
export function openTerminalPeer(master: Fd, options?: CallOptions): Call {
  return ioctl(master, TIOCGPTPEER, O.RDWR | O.NOCTTY | O.CLOEXEC, options)
}

/** Sets the size of a terminal, in characters; its foreground processes get SIGWINCH when that is another one. */
export function setTerminalSize(terminal: Fd, columns: number, rows: number, options?: CallOptions): Call {
  const size = Buffer.alloc(8) // struct winsize
  size.writeUInt16LE(rows, 0)
  size.writeUInt16LE(columns, 2)
  return ioctl(terminal, TIOCSWINSZ, size, options)
}

/** Bytes of `struct winsize`. */
export const terminalSizeBytes = 8

/** Reads the size of a terminal: a `struct winsize`, rows before columns. */
export function getTerminalSize(terminal: Fd, size: Out, options?: CallOptions): Call {
  return ioctl(terminal, TIOCGWINSZ, size, options)
}

/** Bytes of the kernel's `struct termios`. */
export const terminalModesBytes = 36

/** Reads the modes of a terminal, such as echo: a `struct termios` of the kernel (ioctl_tty(2)). */
export function getTerminalModes(terminal: Fd, modes: Out, options?: CallOptions): Call {
  return ioctl(terminal, TCGETS, modes, options)
}

/** Sets what {@link getTerminalModes} has read. */
export function setTerminalModes(terminal: Fd, modes: Buffer, options?: CallOptions): Call {
  return ioctl(terminal, TCSETS, modes, options)
}

/** Makes a terminal the controlling one of the calling session leader. */
export function setControllingTerminal(terminal: Fd, options?: CallOptions): Call {
  return ioctl(terminal, TIOCSCTTY, 0, options)
}
