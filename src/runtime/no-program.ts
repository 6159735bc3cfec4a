import { RuntimeError } from '../errors.ts'
import { errnoNumber } from '../linux/errno.ts'

/**
 * The error for a program that is at none of the places where it may be. Callers of runtimes match its texts:
 * "executable file not found in", "no such file or directory", "permission denied".
 * @param found What was found at each of `places`: a negative errno.
 */
export function noProgram(id: string, name: string, places: readonly string[], found: readonly number[]): RuntimeError {
  const quoted = JSON.stringify(name)
  const denied = found.includes(-(errnoNumber('EACCES') ?? 0))
  const missing = name.includes('/')
    ? `exec: ${quoted}: stat ${name}: no such file or directory`
    : `exec: ${quoted}: executable file not found in $PATH`
  return new RuntimeError(`container ${id}: ${denied ? `exec: ${quoted}: permission denied` : missing}`, {
    step: 'find the program',
    pointer: '/process/args/0',
    subject: id,
    hint: `Looked for ${places.slice(0, 10).join(', ')}.`,
  })
}
