import { constants } from 'node:os'

/** What no program can catch, and what is about this process alone. */
const own = 'SIGKILL SIGSTOP SIGCHLD SIGPROF SIGURG SIGSEGV SIGBUS SIGFPE SIGILL SIGPIPE'.split(' ')

/** Hands every signal that this process gets on to another one. @returns what ends that. */
export function forwardSignals(to: { kill(signal: string): void }): () => void {
  const forward = (name: string): void => {
    try {
      to.kill(name)
    } catch {
      // It has just ended.
    }
  }
  const names = Object.keys(constants.signals).filter((name) => !own.includes(name))
  for (const name of names) process.on(name, forward)
  return () => {
    for (const name of names) process.off(name, forward)
  }
}
