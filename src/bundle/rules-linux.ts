import type { SpecIssue } from '../errors.ts'
import { pointerToken } from '../internal/json.ts'
import { largestNode, parseNumberList } from '../internal/number-list.ts'
import { sysctlNamespace, sysctlPath } from '../internal/sysctl.ts'
import { quote } from '../internal/text.ts'
import type { Rule } from './rules.ts'
import { resourcesRules } from './rules-resources.ts'
import type { IdMapping } from './spec.ts'
import type { Linux, LinuxNamespaceType } from './spec-linux.ts'
import type { LinuxSeccomp } from './spec-seccomp.ts'

/** Rules of the `linux` section. */
export const linuxRules: readonly Rule<Linux>[] = [
  namespaces,
  mappings,
  (linux) => sysctls(linux),
  devices,
  netDevices,
  paths,
  intelRdt,
  memoryPolicy,
  personality,
  ({ seccomp }) => (seccomp === undefined ? [] : seccompRule(seccomp)),
  ...resourcesRules('/linux/resources').map(
    (rule): Rule<Linux> =>
      ({ resources }) =>
        resources === undefined ? [] : rule(resources),
  ),
]

function has(linux: Linux, type: LinuxNamespaceType): boolean {
  return linux.namespaces?.some((namespace) => namespace.type === type) ?? false
}

function isNew(linux: Linux, type: LinuxNamespaceType): boolean {
  return linux.namespaces?.some((namespace) => namespace.type === type && (namespace.path ?? '') === '') ?? false
}

function* namespaces(linux: Linux): Iterable<SpecIssue> {
  const seen = new Set<string>()
  for (const [i, { type, path }] of (linux.namespaces ?? []).entries()) {
    const at = `/linux/namespaces/${i}`
    if (seen.has(type)) yield { pointer: `${at}/type`, message: `the type ${quote(type)} occurs twice` }
    seen.add(type)
    if (path !== undefined && path !== '' && !path.startsWith('/')) {
      yield { pointer: `${at}/path`, message: 'must be an absolute path' }
    }
  }
  if (Object.keys(linux.timeOffsets ?? {}).length > 0 && !isNew(linux, 'time')) {
    yield { pointer: '/linux/timeOffsets', message: 'needs a new time namespace' }
  }
}

function* mappings(linux: Linux): Iterable<SpecIssue> {
  for (const map of ['uidMappings', 'gidMappings'] as const) {
    const ranges = linux[map] ?? []
    if (ranges.length > 0 && !has(linux, 'user')) {
      yield { pointer: `/linux/${map}`, message: 'needs a user namespace' }
    }
    yield* overlaps(ranges, `/linux/${map}`)
  }
}

function* overlaps(ranges: readonly IdMapping[], at: string): Iterable<SpecIssue> {
  for (const [i, range] of ranges.entries()) {
    if (range.size === 0) yield { pointer: `${at}/${i}/size`, message: 'must be at least 1' }
    for (const side of ['containerID', 'hostID'] as const) {
      if (range[side] + range.size > 2 ** 32) {
        yield { pointer: `${at}/${i}`, message: `goes beyond the largest id, counted from ${side}` }
      }
      // Quadratic, so only where the kernel would take the list at all.
      if (i >= 340) continue
      const other = ranges
        .slice(0, i)
        .findIndex((r) => r[side] < range[side] + range.size && range[side] < r[side] + r.size)
      if (other >= 0) yield { pointer: `${at}/${i}/${side}`, message: `overlaps with entry ${other}` }
    }
  }
}

function* sysctls(linux: Linux): Iterable<SpecIssue> {
  for (const name of Object.keys(linux.sysctl ?? {})) {
    const pointer = `/linux/sysctl${pointerToken(name)}`
    const path = sysctlPath(name)
    if (path === undefined) {
      yield { pointer, message: 'is no name of a kernel parameter' }
      continue
    }
    const type = sysctlNamespace(path)
    if (type === undefined) yield { pointer, message: 'belongs to no namespace: it would change the host' }
    else if (!has(linux, type)) yield { pointer, message: `needs a ${type} namespace, or it would change the host` }
  }
}

/** Bits that the kernel has for device numbers. */
const deviceLimits = { major: 0xfff, minor: 0xfffff } as const

function* devices(linux: Linux): Iterable<SpecIssue> {
  for (const [i, device] of (linux.devices ?? []).entries()) {
    if (device.type === 'p') continue
    for (const part of ['major', 'minor'] as const) {
      const value = device[part]
      const pointer = `/linux/devices/${i}/${part}`
      if (value === undefined) yield { pointer, message: `must be present for type ${device.type}` }
      else if (value < 0 || value > deviceLimits[part]) {
        yield { pointer, message: `must be between 0 and ${deviceLimits[part]}` }
      }
    }
  }
}

function* netDevices(linux: Linux): Iterable<SpecIssue> {
  const entries = Object.entries(linux.netDevices ?? {})
  if (entries.length > 0 && !has(linux, 'network')) {
    yield { pointer: '/linux/netDevices', message: 'needs a network namespace' }
  }
  const inside = new Set<string>()
  for (const [host, { name }] of entries) {
    const at = `/linux/netDevices${pointerToken(host)}`
    if (!isDeviceName(host)) yield { pointer: at, message: 'is no name of a network device' }
    if (name !== undefined && name !== '' && !isDeviceName(name)) {
      yield { pointer: `${at}/name`, message: 'is no name of a network device' }
    }
    const final = name || host
    if (inside.has(final) && !final.includes('%d'))
      yield { pointer: at, message: `two devices would be ${quote(final)}` }
    inside.add(final)
  }
}

/** What the kernel takes: up to 15 bytes, no slash, colon or white space. */
function isDeviceName(name: string): boolean {
  return name !== '.' && name !== '..' && Buffer.byteLength(name) <= 15 && /^[^\s/:]+$/.test(name)
}

function* paths(linux: Linux): Iterable<SpecIssue> {
  for (const list of ['maskedPaths', 'readonlyPaths'] as const) {
    if ((linux[list] ?? []).length > 0 && !has(linux, 'mount')) {
      yield { pointer: `/linux/${list}`, message: 'needs a mount namespace' }
    }
  }
}

function* intelRdt({ intelRdt: value }: Linux): Iterable<SpecIssue> {
  const id = value?.closID
  if (id !== undefined && id !== '' && id !== '/' && (id === '.' || id === '..' || id.includes('/'))) {
    yield { pointer: '/linux/intelRdt/closID', message: 'must be the name of a directory, or /' }
  }
}

function* memoryPolicy({ memoryPolicy: policy }: Linux): Iterable<SpecIssue> {
  if (policy === undefined) return
  const list = (policy.nodes ?? '').trim()
  const nodes = list !== ''
  const pointer = '/linux/memoryPolicy/nodes'
  if (nodes && parseNumberList(list, largestNode) === undefined) {
    yield { pointer, message: 'is no list of memory nodes such as 0-3,7' }
  }
  if (nodes && (policy.mode === 'MPOL_DEFAULT' || policy.mode === 'MPOL_LOCAL')) {
    yield { pointer, message: `must be empty for ${policy.mode}` }
  }
  if (!nodes && /^MPOL_(?:BIND|(?:WEIGHTED_)?INTERLEAVE|PREFERRED_MANY)$/.test(policy.mode)) {
    yield { pointer, message: `must name at least one node for ${policy.mode}` }
  }
}

function* personality({ personality: value }: Linux): Iterable<SpecIssue> {
  if ((value?.flags ?? []).length > 0) {
    yield { pointer: '/linux/personality/flags', message: 'must be empty: the specification defines no flag' }
  }
}

function* seccompRule(seccomp: LinuxSeccomp): Iterable<SpecIssue> {
  const at = '/linux/seccomp'
  if (seccomp.defaultErrnoRet !== undefined && !takesErrno(seccomp.defaultAction)) {
    yield { pointer: `${at}/defaultErrnoRet`, message: `${seccomp.defaultAction} takes no errno` }
  }
  for (const [i, { action, errnoRet }] of (seccomp.syscalls ?? []).entries()) {
    if (errnoRet !== undefined && !takesErrno(action)) {
      yield { pointer: `${at}/syscalls/${i}/errnoRet`, message: `${action} takes no errno` }
    }
  }
  if (seccomp.defaultAction === 'SCMP_ACT_NOTIFY') {
    yield { pointer: `${at}/defaultAction`, message: "can't be SCMP_ACT_NOTIFY" }
  }
  const notified = (seccomp.syscalls ?? []).some(({ action }) => action === 'SCMP_ACT_NOTIFY')
  if (notified && (seccomp.listenerPath ?? '') === '') {
    yield { pointer: `${at}/listenerPath`, message: 'must be present: a rule has SCMP_ACT_NOTIFY' }
  }
  if ((seccomp.listenerMetadata ?? '') !== '' && (seccomp.listenerPath ?? '') === '') {
    yield { pointer: `${at}/listenerMetadata`, message: 'needs listenerPath' }
  }
}

function takesErrno(action: string): boolean {
  return action === 'SCMP_ACT_ERRNO' || action === 'SCMP_ACT_TRACE'
}
