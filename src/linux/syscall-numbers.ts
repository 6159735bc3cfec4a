import { InvalidArgumentError } from '../errors.ts'
import type { Architecture } from './architecture.ts'
import { type SeccompNumbers, seccompNumbers } from './seccomp-numbers.ts'

const tables = new Map<Architecture, SeccompNumbers>()

/** The kernel's number of a system call. @throws InvalidArgumentError for a name that is none. */
export function syscallNumber(name: string, architecture: Architecture): number {
  let numbers = tables.get(architecture)
  if (numbers === undefined) {
    numbers = seccompNumbers(architecture === 'x64' ? 'x86_64' : 'aarch64')
    tables.set(architecture, numbers)
  }
  const number = numbers(name)
  if (number === undefined) throw new InvalidArgumentError(`no system call is named ${name}`, { subject: name })
  return number
}
