import { statSync } from 'node:fs'
import { join, posix } from 'node:path'
import type { Spec } from '../../bundle/spec.ts'
import type { LinuxNamespaceType } from '../../bundle/spec-linux.ts'
import { hostHierarchies } from '../cgroups/hierarchies.ts'
import { type CgroupLocation, textOf } from '../cgroups/location.ts'
import { planResources } from '../cgroups/resources.ts'
import type { CgroupSetting } from '../cgroups/setting.ts'
import { type MountLine, parseMountInfo } from '../mount-info.ts'
import type { AuditFinding, AuditSubject } from './finding.ts'

const files: Readonly<Record<LinuxNamespaceType, string>> = {
  pid: 'pid',
  network: 'net',
  mount: 'mnt',
  ipc: 'ipc',
  uts: 'uts',
  user: 'user',
  cgroup: 'cgroup',
  time: 'time',
}

/** Whether each namespace is one of its own, or the one that was to be joined. */
export function auditNamespaces({ linux }: Spec, { pid }: AuditSubject): readonly AuditFinding[] {
  return (linux?.namespaces ?? []).flatMap(({ type, path }, index): readonly AuditFinding[] => {
    const pointer = `/linux/namespaces/${index}`
    const own = identity(`/proc/${pid}/ns/${files[type]}`)
    if (path !== undefined && path !== '') {
      const wanted = identity(path)
      if (wanted === undefined || own === wanted) return []
      return [{ kind: 'namespace', severity: 'weaker', pointer, expected: `that of ${path}`, actual: own ?? 'none' }]
    }
    if (own !== identity(`/proc/self/ns/${files[type]}`)) return []
    return [
      {
        kind: 'namespace',
        severity: 'weaker',
        pointer,
        expected: `a ${type} namespace of its own`,
        actual: "the host's",
      },
    ]
  })
}

function identity(path: string): string | undefined {
  const stat = statSync(path, { throwIfNoEntry: false, bigint: true })
  return stat === undefined ? undefined : `${stat.dev}:${stat.ino}`
}

/** Flags that take something away from the container. */
const protective = ['ro', 'nosuid', 'nodev', 'noexec'] as const

/** Whether what was asked for is mounted, with the flags that protect, and masks and read-only paths are in place. */
export function auditMounts(spec: Spec, subject: AuditSubject): readonly AuditFinding[] {
  if (spec.linux?.namespaces?.some(({ type }) => type === 'mount') !== true) return []
  // The last one that was put on a path is the one that is seen.
  const entries = new Map(parseMountInfo(subject.read('mountinfo')).map((entry) => [entry.point, entry]))
  const findings: AuditFinding[] = []
  spec.mounts?.forEach((mount, index) => {
    const pointer = `/mounts/${index}`
    const point = posix.normalize(`/${mount.destination}/`).slice(0, -1)
    const entry = entries.get(point)
    // A symlink in the image has led elsewhere, or the container has taken it down itself.
    if (entry === undefined) {
      findings.push({ kind: 'mount', severity: 'different', pointer, expected: `a mount on ${point}`, actual: 'none' })
      return
    }
    const missing = protective.filter((flag) => asks(mount.options, flag) && !entry.options.has(flag))
    if (missing.length === 0) return
    const actual = [...entry.options].join(',')
    findings.push({ kind: 'mount', severity: 'weaker', pointer, expected: missing.join(','), actual })
  })
  if (spec.root?.readonly === true && entries.get('/')?.options.has('ro') !== true) {
    findings.push({ kind: 'mount', severity: 'weaker', pointer: '/root/readonly', expected: 'ro', actual: 'rw' })
  }
  return [...findings, ...paths(spec, subject, entries)]
}

/** Of two that contradict each other the last one counts. */
function asks(options: readonly string[] = [], flag: (typeof protective)[number]): boolean {
  const opposite = flag === 'ro' ? 'rw' : flag.slice(2)
  return options.findLast((option) => option === flag || option === opposite) === flag
}

function paths(
  { linux }: Spec,
  { pid }: AuditSubject,
  entries: ReadonlyMap<string, MountLine>,
): readonly AuditFinding[] {
  const findings: AuditFinding[] = []
  const isThere = (path: string): boolean =>
    statSync(join(`/proc/${pid}/root`, path), { throwIfNoEntry: false }) !== undefined
  const check = (path: string, pointer: string, expected: string): void => {
    const entry = entries.get(posix.normalize(path))
    const holds = expected === 'masked' ? entry !== undefined : entry?.options.has('ro') === true
    if (holds || !isThere(path)) return
    findings.push({ kind: 'mount', severity: 'weaker', pointer, expected, actual: `${path} as it is` })
  }
  for (const [index, path] of (linux?.maskedPaths ?? []).entries()) check(path, `/linux/maskedPaths/${index}`, 'masked')
  for (const [index, path] of (linux?.readonlyPaths ?? []).entries()) {
    check(path, `/linux/readonlyPaths/${index}`, 'read-only')
  }
  return findings
}

/** Whether the files of the cgroup have the values that were asked for. */
export function auditCgroup(spec: Spec, location: CgroupLocation): readonly AuditFinding[] {
  const planned = planResources(spec.linux?.resources ?? {}, hostHierarchies())
  return [...planned.v1, ...planned.v2].flatMap((setting): readonly AuditFinding[] => {
    if (isWriteOnly(setting)) return []
    const directory = location.v1.get(setting.controller) ?? location.v2
    const text = directory === undefined ? undefined : textOf(join(directory, setting.file))?.trim()
    if (text === undefined && (setting.tolerate !== undefined || setting.either !== undefined)) return []
    if (text !== undefined && agrees(text, setting.value)) return []
    const expected = `${setting.file} ${setting.value}`
    return [{ kind: 'cgroup', severity: 'weaker', pointer: setting.pointer, expected, actual: text ?? 'no such file' }]
  })
}

function isWriteOnly({ controller, file }: CgroupSetting): boolean {
  return controller === 'devices' || file.endsWith('ifpriomap') || /weight|io\.max|throttle|rdma/.test(file)
}

const pageSize = 4096

/** The kernel counts memory in pages, and has a number of its own for no limit. */
function agrees(text: string, value: string): boolean {
  if (text === value || text.split('\n').includes(value)) return true
  const [present, wanted] = [Number(text), Number(value)]
  if (wanted < 0) return text === 'max' || present < 0 || present > 2 ** 62
  return Math.floor(wanted / pageSize) * pageSize === present
}
