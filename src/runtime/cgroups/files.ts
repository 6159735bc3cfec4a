import { join } from 'node:path'
import type { LinuxResources } from '../../bundle/spec-resources.ts'
import type { Call, CallOptions } from '../../linux/call.ts'
import { attachDeviceProgram, BPF_F, loadDeviceProgram } from '../../linux/calls/bpf.ts'
import { AT_FDCWD, close, dup3, fchownat, O, openat, write } from '../../linux/calls/files.ts'
import type { Host } from '../host.ts'
import { isHostRoot } from './delegation.ts'
import { deviceProgram } from './device-program.ts'
import { ancestors } from './path.ts'
import { type CgroupSetting, resourcesPointer } from './setting.ts'

/** Opens a file or directory under a number that is known before. */
export function openAs(path: string, flags: number, descriptor: number): readonly Call[] {
  const step = 'set up the cgroup'
  const opened = openat(AT_FDCWD, path, flags, 0, { step })
  return [opened, dup3(opened, descriptor, O.CLOEXEC, { step }), close(opened)]
}

/** Puts a process into the cgroup of a `cgroup.procs`. */
export function enterCalls(path: string, pid: number): readonly Call[] {
  const step = 'join the cgroup'
  const file = openat(AT_FDCWD, path, O.WRONLY, 0, { step })
  return [file, write(file, String(pid), { step }), close(file)]
}

/**
 * Writes settings of one file, which is opened once. The first call opens it; where that may fail, the others do nothing.
 */
export function settingCalls(
  directory: string,
  settings: readonly [CgroupSetting, ...CgroupSetting[]],
): readonly Call[] {
  const [first] = settings
  const file = openat(AT_FDCWD, join(directory, first.file), O.WRONLY, 0, reasonOf(first))
  const writes = settings.map((setting) => {
    const { tolerate, ...why } = reasonOf(setting)
    return write(file, setting.value, tolerate === undefined ? why : { ...why, tolerate: writeTolerance(tolerate) })
  })
  return [file, ...writes, close(file, { tolerate: 'EBADF' })]
}

function reasonOf({ file, value, pointer, either, tolerate }: CgroupSetting): CallOptions {
  const step = `set ${file} to ${value}`
  if (either !== undefined) return { step, pointer, tolerate: 'ENOENT' }
  return tolerate === undefined ? { step, pointer } : { step, pointer, tolerate }
}

/** A file that is not there gives no descriptor to write to. */
function writeTolerance(tolerate: string): string {
  return tolerate === 'ENOENT' ? 'EBADF' : tolerate
}

/** Version 2: a controller works in a directory only when every directory above hands it down. */
export function handDown(
  host: Pick<Host, 'read' | 'uid' | 'inUserNamespace'>,
  mountPoint: string,
  path: string,
  controllers: readonly string[],
): readonly Call[] {
  if (controllers.length === 0) return []
  const value = controllers.map((controller) => `+${controller}`).join(' ')
  return ancestors(mountPoint, path)
    .slice(0, -1)
    .flatMap((directory) => {
      const path = join(directory, 'cgroup.subtree_control')
      // An ordinary user may not write to what is above the part that was handed over.
      const given = isHostRoot(host) ? [] : (host.read(path) ?? '').trim().split(' ')
      if (controllers.every((controller) => given.includes(controller))) return []
      const file = openat(AT_FDCWD, path, O.WRONLY, 0, { step: 'set up the cgroup' })
      return [file, write(file, value, { step: `hand down the cgroup controllers ${value}` }), close(file)]
    })
}

/** Attaches a program for `rules` to the cgroup that is open as `cgroup`; uses the number `scratch` meanwhile. */
export function deviceProgramCalls(
  rules: NonNullable<LinuxResources['devices']>,
  cgroup: number,
  scratch: number,
): readonly Call[] {
  const why = { step: 'set the device rules', pointer: `${resourcesPointer}/devices` }
  const program = loadDeviceProgram(deviceProgram(rules), why)
  return [
    program,
    dup3(program, scratch, O.CLOEXEC, why),
    close(program),
    attachDeviceProgram(cgroup, scratch, { flags: BPF_F.ALLOW_MULTI }, why),
    close(scratch),
  ]
}

/** A version 1 cpuset is empty when it is made, and takes no process until both files are set; so on every level. */
export function inheritCpuset(
  host: Pick<Host, 'read'>,
  mountPoint: string,
  path: string,
  resources: LinuxResources,
): readonly Call[] {
  const calls: Call[] = []
  const pointer = `${resourcesPointer}/cpu`
  for (const [file, value] of [
    ['cpuset.cpus', resources.cpu?.cpus],
    ['cpuset.mems', resources.cpu?.mems],
  ] as const) {
    const all = ancestors(mountPoint, path)
    const own = all.at(-1)
    let inherited = ''
    for (const directory of all) {
      const present = host.read(join(directory, file))?.trim() ?? ''
      if (present === '' && !(directory === own && value !== undefined && value !== '')) {
        calls.push(...settingCalls(directory, [{ controller: 'cpuset', file, value: inherited, pointer }]))
      } else {
        inherited = present
      }
    }
  }
  return calls
}

/** What the kernel lists as the files to hand over with a cgroup (Linux 4.15), and its documentation before. */
const delegatedFiles = 'cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n'

/**
 * Hands a version 2 cgroup over to a user: its directory, and the files in it that are safe to hand over
 * (config-linux.md, "Cgroup ownership").
 */
export function ownershipCalls(host: Pick<Host, 'read'>, directory: string, uid: number): readonly Call[] {
  const step = 'hand the cgroup over'
  const names = (host.read('/sys/kernel/cgroup/delegate') ?? delegatedFiles).split('\n').filter((name) => name !== '')
  return [
    fchownat(AT_FDCWD, directory, uid, -1, 0, { step }),
    ...names.map((name) => fchownat(AT_FDCWD, join(directory, name), uid, -1, 0, { step, tolerate: 'ENOENT' })),
  ]
}
