import { join } from 'node:path'
import type { LinuxIntelRdt } from '../bundle/spec-linux.ts'
import { ConflictError, InvalidArgumentError, NotFoundError, UnsupportedError } from '../errors.ts'
import type { Call, CallOptions } from '../linux/call.ts'
import { AT_FDCWD, close, dup3, mkdirat, O, openat, write } from '../linux/calls/files.ts'
import type { Host } from './host.ts'
import { resctrlMountPoint } from './resctrl.ts'

/** A container's part in resctrl: caches and memory bandwidth that it gets, and the groups that count what it uses. */
export interface IntelRdtPlan {
  /** Made by the monitor: groups, and descriptors that {@link join} writes to. */
  readonly create: readonly Call[]
  /** Made by the first process. */
  readonly join: readonly Call[]
  /** Directories that are made, and go with the container, in their order. */
  readonly directories: readonly string[]
}

/** What a plan depends on. */
export interface IntelRdtOptions {
  readonly id: string
  readonly intelRdt: LinuxIntelRdt | undefined
  readonly host: Pick<Host, 'read' | 'isDirectory'>
  /** First of the descriptor numbers that may be used; there are two. */
  readonly firstDescriptor: number
}

const nothing: IntelRdtPlan = { create: [], join: [], directories: [] }
const at = '/linux/intelRdt'

/**
 * Plans `linux.intelRdt` (config-linux.md, "IntelRdt"). A class of service that has no name is the container's own and
 * goes with it; one that is there already is used as it is, and has to be as the config says.
 * @throws InvalidArgumentError for a class that would lie elsewhere. @throws UnsupportedError where no resctrl file system is
 * mounted. @throws NotFoundError, ConflictError for a class
 * that has to be there and is not, or is another one.
 */
export function planIntelRdt({ id, intelRdt, host, firstDescriptor }: IntelRdtOptions): IntelRdtPlan {
  if (intelRdt === undefined) return nothing
  const mountPoint = resctrlMountPoint(host)
  if (mountPoint === undefined) {
    throw new UnsupportedError(at, 'no resctrl file system is mounted on this host', {
      hint: 'It takes a processor with RDT; then: mount -t resctrl resctrl /sys/fs/resctrl',
    })
  }
  const { closID = '' } = intelRdt
  if (/^\.\.?$|.\/|\/./.test(closID)) {
    throw new InvalidArgumentError(`${at}/closID: ${JSON.stringify(closID)} is no name of a class of service`, {
      subject: closID,
    })
  }
  const schemata = schemataOf(intelRdt)
  const { directory, group } = groupsOf(id, intelRdt, mountPoint)
  const isThere = host.isDirectory(directory)
  if (isThere) checkSchemata(host, directory, schemata)
  else if (closID !== '' && schemata.length === 0) {
    const hint = 'Make it before, or say in the config what it is to have.'
    throw new NotFoundError(closID, `${at}/closID: there is no class of service ${JSON.stringify(closID)}`, { hint })
  }
  const why: CallOptions = { step: 'set up the class of service', pointer: at }
  const groups = intelRdt.enableMonitoring === true ? [directory, group] : [directory]
  const made = [...(isThere ? [] : [directory]), ...(groups.includes(group) ? [group] : [])]
  return {
    create: [
      ...made.slice(0, isThere ? 0 : 1).map((path) => mkdirat(AT_FDCWD, path, 0o755, why)),
      ...(isThere || schemata.length === 0 ? [] : writeSchemata(directory, schemata, why)),
      ...(groups.includes(group) ? [mkdirat(AT_FDCWD, group, 0o755, why)] : []),
      ...groups.flatMap((path, index) => openTasks(path, firstDescriptor + index, why)),
    ],
    join: joinTasks(groups, firstDescriptor),
    directories: made.toReversed(),
  }
}

/** How a further process of a container gets to where its first one is: opened on the host, and written to by the process. */
export function joinIntelRdt({ id, intelRdt, host, firstDescriptor }: IntelRdtOptions): {
  readonly open: readonly Call[]
  readonly join: readonly Call[]
} {
  const mountPoint = intelRdt === undefined ? undefined : resctrlMountPoint(host)
  if (intelRdt === undefined || mountPoint === undefined) return { open: [], join: [] }
  const { directory, group } = groupsOf(id, intelRdt, mountPoint)
  const groups = intelRdt.enableMonitoring === true ? [directory, group] : [directory]
  const why: CallOptions = { step: 'join the class of service', pointer: at }
  return {
    open: groups.flatMap((path, index) => openTasks(path, firstDescriptor + index, why)),
    join: joinTasks(groups, firstDescriptor),
  }
}

/** The class of service, and the group in it that counts what the container uses. */
function groupsOf(id: string, { closID = '' }: LinuxIntelRdt, mountPoint: string) {
  const directory = closID === '/' ? mountPoint : join(mountPoint, closID || id)
  return { directory, group: join(directory, 'mon_groups', id) }
}

/** Whoever writes 0 moves itself. */
function joinTasks(groups: readonly string[], firstDescriptor: number): readonly Call[] {
  const why = { step: 'join the class of service', pointer: at }
  return groups.flatMap((_, index) => [write(firstDescriptor + index, '0', why), close(firstDescriptor + index)])
}

/** The lines to write, the general ones first: what is said twice is said last by `schemata`. */
function schemataOf({ l3CacheSchema = '', memBwSchema = '', schemata = [] }: LinuxIntelRdt): readonly string[] {
  const lines = [...l3CacheSchema.split('\n'), ...memBwSchema.split('\n'), ...schemata].map((line) => line.trim())
  const given = lines.filter((line) => line !== '')
  const broken = given.find((line) => !/^[A-Za-z0-9_]+:\S+$/.test(line))
  if (broken !== undefined) throw new InvalidArgumentError(`${at}: ${JSON.stringify(broken)} is no line of schemata`)
  return given
}

/** Resources of a line by their ids: `L3:0=f;1=f`. */
function parseLine(line: string): ReadonlyMap<string, string> {
  const [resource = '', values = ''] = line.replaceAll(' ', '').split(':')
  return new Map(
    values.split(';').map((value) => {
      const [id = '', bits = ''] = value.split('=')
      return [`${resource}:${id}`, bits.toLowerCase().replace(/^0+(?=.)/, '')]
    }),
  )
}

function checkSchemata(host: Pick<Host, 'read'>, directory: string, wanted: readonly string[]): void {
  if (wanted.length === 0) return
  const text = host.read(join(directory, 'schemata')) ?? ''
  const there = new Map(text.split('\n').flatMap((line) => [...parseLine(line)]))
  for (const [resource, value] of wanted.flatMap((line) => [...parseLine(line)])) {
    if (there.get(resource) === value) continue
    const message = `${at}: the class of service ${directory} has ${resource}=${there.get(resource) ?? 'none'}, not ${value}`
    throw new ConflictError(directory, message, { hint: 'Leave the schemata out, or choose another closID.' })
  }
}

function writeSchemata(directory: string, lines: readonly string[], why: CallOptions): readonly Call[] {
  const file = openat(AT_FDCWD, join(directory, 'schemata'), O.WRONLY, 0, why)
  const written = lines.map((line) => write(file, `${line}\n`, { ...why, step: `set the schemata ${line}` }))
  return [file, ...written, close(file)]
}

function openTasks(directory: string, descriptor: number, why: CallOptions): readonly Call[] {
  const file = openat(AT_FDCWD, join(directory, 'tasks'), O.WRONLY, 0, why)
  return [file, dup3(file, descriptor, O.CLOEXEC, why), close(file)]
}
