import type { Spec } from '../../bundle/spec.ts'
import { capabilityNames, capabilityNumber } from '../../linux/capabilities.ts'
import { type AuditFinding, type AuditSubject, statusField } from './finding.ts'

const sets = [
  ['bounding', 'CapBnd'],
  ['effective', 'CapEff'],
  ['permitted', 'CapPrm'],
  ['inheritable', 'CapInh'],
  ['ambient', 'CapAmb'],
] as const

/** What the first process may do, and who it is. Before the start it still is what makes the container. */
export function auditProcess(spec: Spec, subject: AuditSubject, isStarted: boolean): readonly AuditFinding[] {
  return isStarted
    ? [
        ...capabilities(spec, subject),
        ...privileges(spec, subject),
        ...identity(spec, subject),
        ...labels(spec, subject),
        ...limits(spec, subject),
      ]
    : []
}

/** A program may give up what it has, which is no fault; to have more is one. */
function capabilities({ process }: Spec, subject: AuditSubject): readonly AuditFinding[] {
  const wanted = process?.capabilities
  if (wanted === undefined) return []
  return sets.flatMap(([set, field]): readonly AuditFinding[] => {
    const asked = (wanted[set] ?? []).reduce((all, name) => all | bit(capabilityNumber(name)), 0n)
    const present = BigInt(`0x${statusField(subject, field) || '0'}`)
    if ((present & ~asked) === 0n) return []
    const pointer = `/process/capabilities/${set}`
    return [{ kind: 'capabilities', severity: 'weaker', pointer, expected: names(asked), actual: names(present) }]
  })
}

function bit(number: number | undefined): bigint {
  return number === undefined ? 0n : 1n << BigInt(number)
}

function names(mask: bigint): string {
  const found = capabilityNames.filter((_, number) => ((mask >> BigInt(number)) & 1n) === 1n)
  return found.length === 0 ? 'none' : found.join(' ')
}

const seccompModes = ['none', 'strict', 'a filter']

function privileges({ process, linux }: Spec, subject: AuditSubject): readonly AuditFinding[] {
  const findings: AuditFinding[] = []
  const noNewPrivileges = statusField(subject, 'NoNewPrivs') === '1'
  if (process?.noNewPrivileges === true && !noNewPrivileges) {
    const pointer = '/process/noNewPrivileges'
    findings.push({ kind: 'no-new-privileges', severity: 'weaker', pointer, expected: 'true', actual: 'false' })
  }
  const mode = Number(statusField(subject, 'Seccomp') || 0)
  if (linux?.seccomp !== undefined && mode === 0) {
    const actual = seccompModes[mode] ?? String(mode)
    findings.push({ kind: 'seccomp', severity: 'weaker', pointer: '/linux/seccomp', expected: 'a filter', actual })
  }
  return findings
}

function identity({ process, linux }: Spec, subject: AuditSubject): readonly AuditFinding[] {
  // In a user namespace, of whatever maps, the numbers here are those of the host.
  if (linux?.namespaces?.some(({ type }) => type === 'user') === true) return []
  const [uid, gid] = [process?.user?.uid ?? 0, process?.user?.gid ?? 0]
  const checks: readonly (readonly [field: string, expected: number, pointer: string])[] = [
    ['Uid', uid, '/process/user/uid'],
    ['Gid', gid, '/process/user/gid'],
  ]
  return checks.flatMap(([field, expected, pointer]): readonly AuditFinding[] => {
    const actual = statusField(subject, field).split(/\s+/)[1] ?? ''
    if (actual === String(expected)) return []
    return [
      {
        kind: 'identity',
        severity: actual === '0' ? 'weaker' : 'different',
        pointer,
        expected: String(expected),
        actual,
      },
    ]
  })
}

function labels({ process }: Spec, subject: AuditSubject): readonly AuditFinding[] {
  const checks: readonly (readonly [file: string, expected: string | undefined, pointer: string])[] = [
    ['attr/apparmor/current', process?.apparmorProfile, '/process/apparmorProfile'],
    ['attr/current', process?.selinuxLabel, '/process/selinuxLabel'],
  ]
  return checks.flatMap(([file, expected, pointer]): readonly AuditFinding[] => {
    if (expected === undefined || expected === '') return []
    const actual = subject
      .read(file)
      .replace(/\0|\n/g, '')
      .replace(/ \((enforce|complain)\)$/, '')
    return actual === expected ? [] : [{ kind: 'label', severity: 'weaker', pointer, expected, actual }]
  })
}

/** Names of /proc/<pid>/limits. */
const limitNames: Readonly<Record<string, string>> = {
  RLIMIT_CPU: 'Max cpu time',
  RLIMIT_FSIZE: 'Max file size',
  RLIMIT_DATA: 'Max data size',
  RLIMIT_STACK: 'Max stack size',
  RLIMIT_CORE: 'Max core file size',
  RLIMIT_RSS: 'Max resident set',
  RLIMIT_NPROC: 'Max processes',
  RLIMIT_NOFILE: 'Max open files',
  RLIMIT_MEMLOCK: 'Max locked memory',
  RLIMIT_AS: 'Max address space',
  RLIMIT_LOCKS: 'Max file locks',
  RLIMIT_SIGPENDING: 'Max pending signals',
  RLIMIT_MSGQUEUE: 'Max msgqueue size',
  RLIMIT_NICE: 'Max nice priority',
  RLIMIT_RTPRIO: 'Max realtime priority',
  RLIMIT_RTTIME: 'Max realtime timeout',
}

/** A program may lower its limits, and the soft one within the hard; the hard one can't rise. */
function limits({ process }: Spec, subject: AuditSubject): readonly AuditFinding[] {
  const text = subject.read('limits')
  return (process?.rlimits ?? []).flatMap(({ type, hard }, index): readonly AuditFinding[] => {
    const actual = new RegExp(`^${limitNames[type]}\\s+\\S+\\s+(\\S+)`, 'm').exec(text)?.[1]
    const infinity = 2n ** 64n - 1n
    const value = (word: string): bigint => (word === 'unlimited' ? infinity : BigInt(word))
    if (actual === undefined || value(actual) <= BigInt(hard)) return []
    const pointer = `/process/rlimits/${index}`
    return [{ kind: 'resource-limit', severity: 'weaker', pointer, expected: String(hard), actual }]
  })
}
