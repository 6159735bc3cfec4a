import { posix } from 'node:path'
import type { Mount, Spec } from '../bundle/spec.ts'
import type { LinuxDevice } from '../bundle/spec-linux.ts'
import { type Call, type CallOptions, type Out, out } from '../linux/call.ts'
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  close,
  fchownat,
  makeDevice,
  mknodat,
  S_IFBLK,
  S_IFCHR,
  S_IFIFO,
  S_IFMT,
  statx,
  symlinkat,
  umask,
} from '../linux/calls/files.ts'
import { attachMount, cloneTree } from '../linux/calls/mounts.ts'
import type { CallRunner, Results } from '../linux/runner.ts'
import { type Examination, fileKind, foundWrong, statxSize } from './examine.ts'
import { destinationOf } from './kernel-mounts.ts'
import { parseMountOptions } from './mount-options.ts'
import { makeDirectoryInRoot, makeFileInRoot, openInRoot, openNodeInRoot, openRealDirectory } from './paths.ts'

/** Devices that every container has (runtime-spec, config-linux.md, "Default Devices"). */
const defaultDevices: readonly LinuxDevice[] = [
  { path: '/dev/null', type: 'c', major: 1, minor: 3 },
  { path: '/dev/zero', type: 'c', major: 1, minor: 5 },
  { path: '/dev/full', type: 'c', major: 1, minor: 7 },
  { path: '/dev/random', type: 'c', major: 1, minor: 8 },
  { path: '/dev/urandom', type: 'c', major: 1, minor: 9 },
  { path: '/dev/tty', type: 'c', major: 5, minor: 0 },
]

/** Whether a container has a device at that path. */
export function isDevice(path: string, { linux }: Pick<Spec, 'linux'>): boolean {
  return [...defaultDevices, ...(linux?.devices ?? [])].some((device) => posix.normalize(device.path) === path)
}

/** Symlinks that every container has (config-linux.md, "Default Devices", runtime-linux.md, "Dev symbolic links"). */
const links: readonly (readonly [name: string, target: string])[] = [
  ['fd', '/proc/self/fd'],
  ['stdin', '/proc/self/fd/0'],
  ['stdout', '/proc/self/fd/1'],
  ['stderr', '/proc/self/fd/2'],
  ['ptmx', 'pts/ptmx'],
]

const types: Readonly<Record<LinuxDevice['type'], number>> = { c: S_IFCHR, u: S_IFCHR, b: S_IFBLK, p: S_IFIFO }

/** The devices of a container as system calls. */
export interface DevicePlan {
  readonly calls: readonly Call[]
  readonly examinations: readonly Examination[]
}

/** What devices depend on. */
export interface DeviceOptions {
  readonly devices: readonly LinuxDevice[]
  readonly mounts: readonly Mount[]
  /** Descriptor of the container's root. */
  readonly root: number
  readonly userNamespace: boolean
}

/**
 * Plans what fills /dev: nothing when a directory of the host is bound there, which is as it is meant to be. In a user
 * namespace nobody may make device nodes; there the host's own are bound.
 */
export function planDevices({ devices, mounts, root, userNamespace }: DeviceOptions): DevicePlan {
  if (mounts.some(bindsDev)) return { calls: [], examinations: [] }
  const why: CallOptions = { step: 'fill /dev', pointer: '/linux/devices' }
  const extra = new Set(devices.map((device) => posix.normalize(device.path)))
  const all = [...defaultDevices.filter((device) => !extra.has(device.path)), ...devices]
  // A rootfs that has /dev as a symlink would have the nodes made on the host (CVE-2026-41579, CVE-2026-47766).
  const dev = openRealDirectory(root, '/dev', why)
  const examinations: Examination[] = []
  const made = all.flatMap((device) => {
    const pointer = devices.includes(device) ? `/linux/devices/${devices.indexOf(device)}` : '/linux/devices'
    const plan = userNamespace && device.type !== 'p' ? bindDevice : makeNode
    const { calls, examination } = plan(device, root, dev, pointer)
    examinations.push(examination)
    return calls
  })
  const calls = [
    ...makeDirectoryInRoot(root, '/dev', why),
    dev,
    umask(0, why),
    ...made,
    umask(0o022, why),
    ...links.map(([name, target]) => symlinkat(target, dev, name, { ...why, tolerate: 'EEXIST' })),
    close(dev),
  ]
  return { calls, examinations }
}

function bindsDev(mount: Mount): boolean {
  const isBind = mount.type === 'bind' || parseMountOptions(mount.options).bind !== undefined
  return isBind && destinationOf(mount) === '/dev'
}

interface PlannedDevice {
  readonly calls: readonly Call[]
  readonly examination: Examination
}

const EEXIST = 17
/** STATX_TYPE and STATX_MODE; the device number always comes. */
const STATX_BASIC = 3

function makeNode(device: LinuxDevice, root: number, dev: Call, pointer: string): PlannedDevice {
  const why: CallOptions = { step: `make the device ${device.path}`, pointer }
  const mode = types[device.type] | ((device.fileMode ?? 0o666) & 0o7777)
  const number = makeDevice(device.major ?? 0, device.minor ?? 0)
  const { dir, name, before, after } = parentOf(device.path, root, dev, why)
  const made = mknodat(dir, name, mode, number, { ...why, tolerate: 'EEXIST' })
  const { uid = 0, gid = 0 } = device
  const owned = uid === 0 && gid === 0 ? [] : [fchownat(dir, name, uid, gid, AT_SYMLINK_NOFOLLOW, why)]
  return {
    calls: [...before, made, ...owned, ...after],
    examination: (results, runner) =>
      results.value(made) === -EEXIST ? examineNode(device, root, runner, why) : undefined,
  }
}

async function examineNode(device: LinuxDevice, root: number, runner: CallRunner, why: CallOptions): Promise<void> {
  const kind = out(statxSize)
  const node = openNodeInRoot(root, device.path, why)
  const found = await runner.run([node, statx(node, '', AT_EMPTY_PATH, STATX_BASIC, kind, why), close(node)])
  refuseOther(found, kind, device, why)
}

function bindDevice(device: LinuxDevice, root: number, _: Call, pointer: string): PlannedDevice {
  const why: CallOptions = { step: `bind the device ${device.path}`, pointer }
  const tree = cloneTree(AT_FDCWD, device.path, false, why)
  const kind = out(statxSize)
  const target = openInRoot(root, device.path, why)
  const file = makeFileInRoot(root, device.path, why)
  const looked = statx(tree, '', AT_EMPTY_PATH, STATX_BASIC, kind, why)
  return {
    calls: [tree, looked, ...file, target, attachMount(tree, target, why), close(target), close(tree)],
    examination: (results) => refuseOther(results, kind, device, why),
  }
}

/** A file that is there already has to be the device that is asked for. */
function refuseOther(results: Results, statx: Out, device: LinuxDevice, why: CallOptions): void {
  const { mode, major, minor } = fileKind(results, statx)
  const isType = (mode & S_IFMT) === types[device.type]
  if (isType && (device.type === 'p' || (major === device.major && minor === device.minor))) return
  throw foundWrong(why, `${device.path} exists, and is another file than that device`)
}

function parentOf(path: string, root: number, dev: Call, why: CallOptions) {
  const parent = posix.dirname(posix.normalize(path))
  const name = posix.basename(path)
  if (parent === '/dev') return { dir: dev, name, before: [], after: [] }
  const dir = openInRoot(root, parent, why)
  return { dir, name, before: [...makeDirectoryInRoot(root, parent, why), dir], after: [close(dir)] }
}
