import type { Call, CallOptions } from '../call.ts'
import { type Fd, ioctl, O } from './files.ts'

// include/uapi/asm-generic/ioctls.h, ioctl.h
const TIOCSCTTY = 0x540e
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

/** Makes a terminal the controlling one of the calling session leader. */
export function setControllingTerminal(terminal: Fd, options?: CallOptions): Call {
  return ioctl(terminal, TIOCSCTTY, 0, options)
}
