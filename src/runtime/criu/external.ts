import { closeSync, constants, openSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { posix } from 'node:path'
import type { Spec } from '../../bundle/spec.ts'
import { SyscallError } from '../../errors.ts'
import { out } from '../../linux/call.ts'
import {
  getTerminalModes,
  getTerminalSize,
  terminalModesBytes,
  terminalSizeBytes,
} from '../../linux/calls/terminals.ts'
import { perform, performFor } from '../../linux/local.ts'
import { type MountLine, mountIdOf, parseMountInfo } from '../mount-info.ts'
import { parseMountOptions } from '../mount-options.ts'
import { openInRoot } from '../paths.ts'
import type { ExternalMount, TerminalNote } from './note.ts'
import { consolePoint } from './options.ts'

/**
 * The mounts of a container whose content comes from outside.
 * @param hasTerminal whether its terminal is another one when it is restored
 */
export function externalMounts(pid: number, spec: Spec, hasTerminal: boolean): readonly ExternalMount[] {
  const lines = mountsOf(pid)
  const bound = boundPoints(pid, spec)
  return lines
    .filter(
      (line) =>
        line.point !== '/' &&
        (bound.has(line.point) ||
          line.type.startsWith('cgroup') ||
          (hasTerminal && isTerminal(line)) ||
          !isOwn(line, lines)),
    )
    .map(({ point }) => ({ point, destination: bound.get(point) }))
}

function mountsOf(pid: number): readonly MountLine[] {
  return parseMountInfo(readFileSync(`/proc/${pid}/mountinfo`, 'utf8'))
}

/** Whether it is the container's terminal. */
function isTerminal({ point, type }: MountLine): boolean {
  return point === consolePoint && type === 'devpts'
}

/** Whether the container has all of its file system: then it is one of its own, or a part of one. */
function isOwn({ device, root }: MountLine, lines: readonly MountLine[]): boolean {
  if (root === '/') return true
  return lines.some((line) => line.device === device && (line.root === '/' || root.startsWith(`${line.root}/`)))
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

/** How CRIU names the standard streams of a process that lead out of the container; null for those that do not. */
export function externalStreams(pid: number): readonly (string | null)[] {
  const inside = new Set(mountsOf(pid).map(({ id }) => id))
  return [0, 1, 2].map((number) => {
    const path = `/proc/${pid}/fd/${number}`
    let link: string
    try {
      link = readlinkSync(path)
    } catch {
      return null // it has closed it
    }
    if (/^(pipe|socket):/.test(link)) return link
    const mount = mountIdOf(pid, number)
    if (!link.startsWith('/') || inside.has(mount)) return null
    return `file[${Number(mount).toString(16)}:${statSync(path, { bigint: true }).ino.toString(16)}]`
  })
}

/** The terminal that a process has as one of its standard streams; undefined when it has closed it. */
export function externalTerminal(pid: number): TerminalNote | undefined {
  for (const number of [0, 1, 2]) {
    const path = `/proc/${pid}/fd/${number}`
    const { rdev = 0n, dev = 0n } = statSync(path, { throwIfNoEntry: false, bigint: true }) ?? {}
    // A pseudo-terminal has a major number from 136 to 143 (devices.txt of the kernel).
    const major = (rdev >> 8n) & 0xfffn
    if (major >= 136n && major <= 143n)
      return { name: `tty[${rdev.toString(16)}:${dev.toString(16)}]`, ...stateOf(path) }
  }
  return undefined
}

function stateOf(path: string): Omit<TerminalNote, 'name'> {
  const why = { step: 'read the state of the terminal', pointer: '/process/terminal' }
  const fd = openSync(path, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK)
  try {
    const [modes, size] = [out(terminalModesBytes), out(terminalSizeBytes)]
    const read = performFor(getTerminalModes(fd, modes, why)).bytes(modes)
    const bytes = performFor(getTerminalSize(fd, size, why)).bytes(size)
    return { modes: read.toString('base64'), columns: bytes.readUInt16LE(2), rows: bytes.readUInt16LE(0) }
  } finally {
    closeSync(fd)
  }
}
