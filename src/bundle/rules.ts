import type { SpecIssue } from '../errors.ts'
import { largestCpu, parseNumberList } from '../internal/number-list.ts'
import { quote } from '../internal/text.ts'
import { linuxRules } from './rules-linux.ts'
import { resourcesRules } from './rules-resources.ts'
import type { Mount, Spec } from './spec.ts'
import type { Process, Scheduler } from './spec-process.ts'

export { resourcesRules }

/** What a schema can't say of a document: yields its faults. */
export type Rule<T> = (value: T) => Iterable<SpecIssue>

/** Rules of a whole config.json. */
export const specRules: readonly Rule<Spec>[] = [
  version,
  root,
  names,
  mounts,
  userIsMapped,
  ...processRules('/process').map((rule) => (spec: Spec) => (spec.process === undefined ? [] : rule(spec.process))),
  ...linuxRules.map((rule) => (spec: Spec) => (spec.linux === undefined ? [] : rule(spec.linux))),
]

/** Rules of a process document that stands at a JSON Pointer. */
export function processRules(at: string): readonly Rule<Process>[] {
  return [
    (process) => command(process, at),
    (process) => rlimits(process, at),
    (process) => (process.scheduler === undefined ? [] : scheduler(process.scheduler, `${at}/scheduler`)),
    (process) => affinity(process, `${at}/execCPUAffinity`),
  ]
}

function* version({ ociVersion }: Spec): Iterable<SpecIssue> {
  if (typeof ociVersion !== 'string') return
  const match = /^(\d+)\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?$/.exec(ociVersion)
  if (match === null) yield { pointer: '/ociVersion', message: 'must be a semantic version such as 1.3.0' }
  else if (match[1] !== '1') yield { pointer: '/ociVersion', message: `must be of major version 1, not ${ociVersion}` }
}

function* root(spec: Spec): Iterable<SpecIssue> {
  if (spec.root === undefined && spec.windows === undefined && spec.vm === undefined) {
    yield { pointer: '/root', message: 'must be present' }
  }
}

/** HOST_NAME_MAX of the kernel, which holds for the domain name too. */
const maxName = 64

function* names(spec: Spec): Iterable<SpecIssue> {
  for (const name of ['hostname', 'domainname'] as const) {
    const value = spec[name]
    if (value === undefined || value === '') continue
    if (Buffer.byteLength(value) > maxName) {
      yield { pointer: `/${name}`, message: `must be of at most ${maxName} bytes` }
    }
    if (spec.linux !== undefined && !hasNamespace(spec, 'uts')) {
      yield { pointer: `/${name}`, message: 'needs a uts namespace, or it would be the name of the host' }
    }
  }
}

function hasNamespace(spec: Spec, type: string): boolean {
  return spec.linux?.namespaces?.some((namespace) => namespace.type === type) ?? false
}

function* mounts(spec: Spec): Iterable<SpecIssue> {
  for (const [i, mount] of (spec.mounts ?? []).entries()) {
    yield* mappedMount(mount, `/mounts/${i}`, hasNamespace(spec, 'user'))
  }
}

function* mappedMount(mount: Mount, at: string, inUserNamespace: boolean): Iterable<SpecIssue> {
  const uids = (mount.uidMappings ?? []).length > 0
  const gids = (mount.gidMappings ?? []).length > 0
  if (uids !== gids) {
    yield {
      pointer: `${at}/${uids ? 'gidMappings' : 'uidMappings'}`,
      message: 'must be present: mappings come in pairs',
    }
  }
  const option = (mount.options ?? []).findIndex((name) => name === 'idmap' || name === 'ridmap')
  if (option >= 0 && !uids && !gids && !inUserNamespace) {
    yield { pointer: `${at}/options/${option}`, message: 'needs mappings here, or a user namespace to take them from' }
  }
}

function* command(process: Process, at: string): Iterable<SpecIssue> {
  if (process.commandLine !== undefined) return
  if (!process.cwd.startsWith('/')) yield { pointer: `${at}/cwd`, message: 'must be an absolute path' }
  if (process.args !== undefined && process.args.length === 0) {
    yield { pointer: `${at}/args`, message: 'must have at least one entry' }
  }
  for (const side of ['height', 'width'] as const) {
    const size = process.consoleSize?.[side] ?? 0
    if (size > 0xffff) yield { pointer: `${at}/consoleSize/${side}`, message: 'must be at most 65535' }
  }
}

/** Limits of getrlimit(2). */
const rlimitTypes: ReadonlySet<string> = new Set(
  ['AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING STACK'].flatMap(
    (line) => line.split(' ').map((name) => `RLIMIT_${name}`),
  ),
)

function* rlimits(process: Process, at: string): Iterable<SpecIssue> {
  const seen = new Set<string>()
  for (const [i, { type, soft, hard }] of (process.rlimits ?? []).entries()) {
    const pointer = `${at}/rlimits/${i}`
    if (!rlimitTypes.has(type)) yield { pointer: `${pointer}/type`, message: `Linux has no limit ${quote(type)}` }
    if (seen.has(type)) yield { pointer: `${pointer}/type`, message: `${quote(type)} is limited twice` }
    seen.add(type)
    if (soft > hard) yield { pointer: `${pointer}/soft`, message: 'must not be above the hard limit' }
  }
}

function* scheduler(value: Scheduler, at: string): Iterable<SpecIssue> {
  const { policy, nice = 0, priority = 0 } = value
  if (nice < -20 || nice > 19) yield { pointer: `${at}/nice`, message: 'must be between -20 and 19' }
  const realtime = policy === 'SCHED_FIFO' || policy === 'SCHED_RR'
  if (!realtime && priority !== 0) yield { pointer: `${at}/priority`, message: `${policy} has no priority` }
  if (realtime && (priority < 1 || priority > 99)) {
    yield { pointer: `${at}/priority`, message: `must be between 1 and 99 for ${policy}` }
  }
  for (const name of ['runtime', 'deadline', 'period'] as const) {
    if (policy !== 'SCHED_DEADLINE' && Number(value[name] ?? 0) !== 0) {
      yield { pointer: `${at}/${name}`, message: `${policy} has no ${name}` }
    }
  }
}

function* affinity({ execCPUAffinity: value = {} }: Process, at: string): Iterable<SpecIssue> {
  for (const name of ['initial', 'final'] as const) {
    const list = value[name] ?? ''
    if (list !== '' && parseNumberList(list, largestCpu) === undefined) {
      yield { pointer: `${at}/${name}`, message: 'is no list of CPUs such as 0-3,7' }
    }
  }
}

/** In a new user namespace the process can only be who the mappings name. */
function* userIsMapped(spec: Spec): Iterable<SpecIssue> {
  const user = spec.process?.user
  const namespace = spec.linux?.namespaces?.find(({ type }) => type === 'user')
  if (user === undefined || namespace === undefined || (namespace.path ?? '') !== '') return
  const ids: readonly (readonly [pointer: string, id: number, map: 'uidMappings' | 'gidMappings'])[] = [
    ['uid', user.uid ?? 0, 'uidMappings'],
    ['gid', user.gid ?? 0, 'gidMappings'],
    ...(user.additionalGids ?? []).map((id, i) => [`additionalGids/${i}`, id, 'gidMappings'] as const),
  ]
  for (const [pointer, id, map] of ids) {
    const ranges = spec.linux?.[map] ?? []
    if (ranges.length === 0 || ranges.some((range) => id >= range.containerID && id < range.containerID + range.size)) {
      continue
    }
    yield { pointer: `/process/user/${pointer}`, message: `${id} is in none of the ranges of /linux/${map}` }
  }
}
