import { constants } from 'node:os'
import type { ExitStatus } from '../errors.ts'
import { rusageSize, siginfoSize } from '../linux/calls/processes.ts'
import { tellsOomKill } from './cgroups/plan.ts'
import { type ResourceUsage, resourceUsage } from './resource-usage.ts'

const CLD_EXITED = 1

/** Reads what waitid and the memory controller told. */
export function exitStatus(siginfo: Buffer, oomText: Buffer): ExitStatus {
  const code = siginfo.readInt32LE(8)
  const status = siginfo.readInt32LE(24)
  const oomKilled = tellsOomKill(oomText.toString('latin1'))
  if (code === CLD_EXITED) return { code: status, signal: undefined, oomKilled }
  return { code: 128 + status, signal: signalName(status), oomKilled }
}

/** Reads the record that a monitor wrote; undefined when it is not whole. */
export function recordedExit(record: Buffer): ExitStatus | undefined {
  const head = siginfoSize + rusageSize
  if (record.length < head) return undefined
  return exitStatus(record.subarray(0, siginfoSize), record.subarray(head))
}

/** What the first process and its waited-for children used, in the record that a monitor wrote; undefined as above. */
export function recordedUsage(record: Buffer): ResourceUsage | undefined {
  const head = siginfoSize + rusageSize
  return record.length < head ? undefined : resourceUsage(record.subarray(siginfoSize, head))
}

/** How a container counts whose monitor was killed with it: nobody can say more. */
export const killedWithMonitor: ExitStatus = { code: 137, signal: 'SIGKILL', oomKilled: false }

/** Name of a signal number; undefined for the real-time ones, which have none in Node. */
function signalName(number: number): NodeJS.Signals | undefined {
  const entry = Object.entries(constants.signals).find(([, value]) => value === number)
  return entry?.[0] as NodeJS.Signals | undefined
}
