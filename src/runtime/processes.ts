import { readFileSync, readlinkSync } from 'node:fs'
import { constants } from 'node:os'
import { InvalidArgumentError } from '../errors.ts'

/** What /proc/<pid>/stat says of a process: enough to know whether it still is the one that was meant. */
export interface ProcessStat {
  /** One letter: R, S, D, T, Z, … */
  readonly state: string
  /** Clock ticks from boot to its start; with the pid it names a process for the life of the machine. */
  readonly startTime: string
}

/** Looks at a process; undefined when there is none of that number (proc_pid_stat(5)). */
export function processStat(pid: number): ProcessStat | undefined {
  try {
    return statOf(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return undefined
  }
}

/** What the text of /proc/<pid>/stat says. */
export function statOf(text: string): ProcessStat {
  // The name, in parentheses, may contain anything.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return { state: fields[0] ?? '', startTime: fields[19] ?? '' }
}

/** Whether the process that had `pid` and `startTime` still runs; a zombie does not. */
export function isRunning(pid: number, startTime: string): boolean {
  const stat = processStat(pid)
  return stat !== undefined && stat.startTime === startTime && stat.state !== 'Z' && stat.state !== 'X'
}

/** Number of a signal given as a number, `SIGTERM` or `TERM`. @throws InvalidArgumentError for any other. */
export function signalNumber(signal: string | number): number {
  const name = String(signal).toUpperCase()
  const number = /^\d+$/.test(name) ? Number(name) : named(name)
  if (number === undefined || number > 64) {
    throw new InvalidArgumentError(`${JSON.stringify(signal)} is no signal`, { subject: String(signal) })
  }
  return number
}

function named(name: string): number | undefined {
  const realTime = /^(?:SIG)?RTM(IN\+|AX-)(\d{1,2})$/.exec(name)
  if (realTime) return realTime[1] === 'IN+' ? 34 + Number(realTime[2]) : 64 - Number(realTime[2])
  const signals: Readonly<Record<string, number>> = constants.signals
  return signals[name] ?? signals[`SIG${name}`]
}

/** The pid of a process by what it was told of itself; undefined when it was told nothing. */
export function pidIn(stat: Buffer): number | undefined {
  return Number.parseInt(stat.toString('latin1', 0, 16), 10) || undefined
}

let procIsOwn: boolean | undefined

/** Whether the numbers in /proc are those by which this process calls others. */
export function isOwnProc(): boolean {
  procIsOwn ??= numberInProc() === process.pid
  return procIsOwn
}

function numberInProc(): number | undefined {
  try {
    return Number(readlinkSync('/proc/self'))
  } catch {
    return undefined
  }
}

/** When a process was started; empty for one that is not there. @param stat what it was told of itself, if it was */
export function startTimeOf(pid: number, stat?: Buffer): string {
  return (stat && statOf(stat.toString('latin1')).startTime) || (processStat(pid)?.startTime ?? '')
}
