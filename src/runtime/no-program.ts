import { RuntimeError } from '../errors.ts'
import { filled } from '../linux/call.ts'
import { errnoNumber } from '../linux/errno.ts'
import type { Results } from '../linux/runner.ts'
import type { Plan } from './plan.ts'

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

/** @throws RuntimeError when the first process is not inside of the container's root (CVE-2024-21626). */
export function checkWorkingDirectory(id: string, plan: Plan, results: Results): void {
  if (results.bytes(plan.workingDirectory).toString('latin1').startsWith('/')) return
  const message = `container ${id}: the working directory is outside of the container's root`
  throw new RuntimeError(message, { step: 'check the working directory', pointer: '/process/cwd', subject: id })
}

/** The first candidate of a plan that can be executed. @param name as the config has it @throws RuntimeError when there is none. */
export function chooseProgram(id: string, plan: Plan, results: Results, name: string): string {
  const found = plan.lookups.map((call) => results.value(call))
  const program = plan.programs[found.indexOf(0)]
  if (program !== undefined || plan.programs.length === 0) return program ?? ''
  const places = plan.programs.map((each) => filled(each, id))
  throw noProgram(id, name, places, found)
}
