import type { Terminal } from '../runtime/index.ts'
import { forwardSignals } from './signals.ts'

/** Something that runs, in the foreground. */
interface Foreground {
  readonly terminal: Terminal | undefined
  kill(signal: string): void
}

/**
 * Connects this process with one in the foreground: signals, and when that has a terminal, the one of this process.
 * @returns what ends that, when all is shown.
 */
export function attach(to: Foreground): () => Promise<void> {
  const { terminal } = to
  if (terminal === undefined) {
    const stop = forwardSignals(to)
    return async () => stop()
  }
  const resize = (): void => {
    const { columns, rows } = process.stdout
    if (process.stdout.isTTY && !terminal.destroyed) terminal.resize(columns, rows)
  }
  resize()
  const stop = forwardSignals({ kill: (signal) => (signal === 'SIGWINCH' ? resize() : to.kill(signal)) })
  // What is typed goes to the program as it is: it, and not this process, makes a signal of Ctrl-C.
  if (process.stdin.isTTY) process.stdin.setRawMode(true)
  process.stdin.pipe(terminal)
  terminal.pipe(process.stdout)
  const shown = new Promise((resolve) => terminal.once('close', resolve))
  return async () => {
    process.stdin.unpipe(terminal)
    process.stdin.pause()
    await shown
    if (process.stdin.isTTY) process.stdin.setRawMode(false)
    stop()
  }
}
