import { closeSync, constants, fstatSync, openSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { posix } from 'node:path'
import type { Spec } from '../../bundle/spec.ts'
import { SyscallError } from '../../errors.ts'
import { perform } from '../../linux/local.ts'
import { unescapePath } from '../cgroups/hierarchies.ts'
import { parseMountOptions } from '../mount-options.ts'
import { openInRoot } from '../paths.ts'
import type { ExternalMount } from './options.ts'

/** A line of proc_pid_mountinfo(5). */
interface MountLine {
  readonly device: string
  /** What of its file system is mounted. */
  readonly root: string
  readonly point: string
  readonly type: string
}

/** The mounts of a container whose content comes from outside. */
export function externalMounts(pid: number, spec: Spec): readonly ExternalMount[] {
  const lines = readFileSync(`/proc/${pid}/mountinfo`, 'utf8')
    .split('\n')
    .flatMap((line) => parseLine(line) ?? [])
  const bound = boundPoints(pid, spec)
  return lines
    .filter(
      (line) => line.point !== '/' && (bound.has(line.point) || line.type.startsWith('cgroup') || !isOwn(line, lines)),
    )
    .map(({ point }) => ({ point, destination: bound.get(point) }))
}

/** Whether the container has all of its file system: then it is one of its own, or a part of one. */
function isOwn({ device, root }: MountLine, lines: readonly MountLine[]): boolean {
  if (root === '/') return true
  return lines.some((line) => line.device === device && (line.root === '/' || root.startsWith(`${line.root}/`)))
}

function parseLine(line: string): MountLine | undefined {
  const [before = '', after = ''] = line.split(' - ')
  const [, , device, root, point] = before.split(' ')
  if (device === undefined || root === undefined || point === undefined) return undefined
  return { device, root: unescapePath(root), point: unescapePath(point), type: after.split(' ')[0] ?? '' }
}

/** Where the bind mounts of the config are, and what it calls that. */
function boundPoints(pid: number, spec: Spec): ReadonlyMap<string, string> {
  const root = openSync(`/proc/${pid}/root`, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    const binds = (spec.mounts ?? []).filter(({ type, options }) => {
      return type === 'bind' || parseMountOptions(options).bind !== undefined
    })
    return new Map(binds.map(({ destination }) => [resolved(root, destination), destination]))
  } finally {
    closeSync(root)
  }
}

/** Where a path inside a root leads to. */
function resolved(root: number, path: string): string {
  const normal = posix.normalize(`/${path}/`).slice(0, -1)
  try {
    const fd = perform(openInRoot(root, path, {}))
    try {
      return readlinkSync(`/proc/self/fd/${fd}`)
    } finally {
      closeSync(fd)
    }
  } catch (cause) {
    if (cause instanceof SyscallError) return normal
    throw cause
  }
}

/** How CRIU names the standard streams of a process that lead out of the container; undefined for those that do not. */
export function externalStreams(pid: number): readonly (string | undefined)[] {
  const inside = mountIds(pid)
  return [0, 1, 2].map((number) => {
    const path = `/proc/${pid}/fd/${number}`
    let link: string
    try {
      link = readlinkSync(path)
    } catch {
      return undefined // it has closed it
    }
    if (/^(pipe|socket):/.test(link)) return link
    const mount = /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/fdinfo/${number}`, 'utf8'))?.[1] ?? ''
    if (!link.startsWith('/') || inside.has(mount)) return undefined
    return `file[${Number(mount).toString(16)}:${BigInt(statSync(path, { bigint: true }).ino).toString(16)}]`
  })
}

function mountIds(pid: number): ReadonlySet<string> {
  const lines = readFileSync(`/proc/${pid}/mountinfo`, 'utf8').split('\n')
  return new Set(lines.map((line) => line.split(' ')[0] ?? ''))
}

/** Number of the inode that a namespace of a process has. */
export function namespaceInode(path: string): number {
  const fd = openSync(path, 'r')
  try {
    return fstatSync(fd).ino
  } finally {
    closeSync(fd)
  }
}
