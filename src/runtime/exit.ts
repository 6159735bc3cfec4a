import { constants } from 'node:os'
import type { ExitStatus } from '../errors.ts'
import { type Call, type Out, out } from '../linux/call.ts'
import { AT_FDCWD, close, O, openat, read, renameat2, write } from '../linux/calls/files.ts'
import { rusageSize, siginfoSize, waitForExit } from '../linux/calls/processes.ts'
import { tellsOomKill } from './cgroups/cgroup.ts'

const oomTextSize = 512
const CLD_EXITED = 1

/** The batch that waits for the end of a container; made by its monitor, also when nobody is there to hear of it. */
export interface ExitWatch {
  readonly calls: readonly Call[]
  readonly siginfo: Out
  readonly rusage: Out
  readonly oomText: Out
}

/**
 * Plans to wait for `pid` and to read how often its cgroup ran out of memory.
 * @param recordPath File to write both to, for a process that asks later.
 */
export function watchExit(pid: number, oomCounter: string | undefined, recordPath: string | undefined): ExitWatch {
  const siginfo = out(siginfoSize)
  const rusage = out(rusageSize)
  const oomText = out(oomTextSize)
  const any = { tolerate: 'any' } as const
  const calls: Call[] = [waitForExit(pid, siginfo, rusage, { step: 'wait for the container' })]
  if (oomCounter !== undefined) {
    const counter = openat(AT_FDCWD, oomCounter, O.RDONLY, 0, any)
    calls.push(counter, read(counter, oomText, any), close(counter, any))
  }
  if (recordPath !== undefined) {
    const file = openat(AT_FDCWD, `${recordPath}.new`, O.WRONLY | O.CREAT | O.TRUNC, 0o600, any)
    calls.push(file, write(file, siginfo, any), write(file, oomText, any), close(file, any))
    calls.push(renameat2(AT_FDCWD, `${recordPath}.new`, AT_FDCWD, recordPath, 0, any))
  }
  return { calls, siginfo, rusage, oomText }
}

/** Reads what waitid and the memory controller told. */
export function exitStatus(siginfo: Buffer, oomText: Buffer): ExitStatus {
  const code = siginfo.readInt32LE(8)
  const status = siginfo.readInt32LE(24)
  const oomKilled = tellsOomKill(oomText.toString('latin1'))
  if (code === CLD_EXITED) return { code: status, signal: undefined, oomKilled }
  return { code: 128 + status, signal: signalName(status), oomKilled }
}

/** Reads a record that {@link watchExit} wrote. */
export function recordedExit(record: Buffer): ExitStatus {
  return exitStatus(record.subarray(0, siginfoSize), record.subarray(siginfoSize))
}

/** How a container counts whose monitor was killed with it: nobody can say more. */
export const killedWithMonitor: ExitStatus = { code: 137, signal: 'SIGKILL', oomKilled: false }

/** Name of a signal number; undefined for the real-time ones, which have none in Node. */
export function signalName(number: number): NodeJS.Signals | undefined {
  const entry = Object.entries(constants.signals).find(([, value]) => value === number)
  return entry?.[0] as NodeJS.Signals | undefined
}
