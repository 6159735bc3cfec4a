import { posix } from 'node:path'
import type { LinuxDevice } from '../bundle/spec-linux.ts'
import type { Call, CallOptions } from '../linux/call.ts'
import {
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  close,
  fchownat,
  makeDevice,
  mknodat,
  S_IFBLK,
  S_IFCHR,
  S_IFIFO,
  symlinkat,
  umask,
} from '../linux/calls/files.ts'
import { attachMount, cloneTree } from '../linux/calls/mounts.ts'
import { makeDirectoryInRoot, makeFileInRoot, openInRoot, openRealDirectory } from './paths.ts'

/** Devices that every container has (runtime-spec, config-linux.md, "Default Devices"). */
const defaultDevices: readonly LinuxDevice[] = [
  { path: '/dev/null', type: 'c', major: 1, minor: 3 },
  { path: '/dev/zero', type: 'c', major: 1, minor: 5 },
  { path: '/dev/full', type: 'c', major: 1, minor: 7 },
  { path: '/dev/random', type: 'c', major: 1, minor: 8 },
  { path: '/dev/urandom', type: 'c', major: 1, minor: 9 },
  { path: '/dev/tty', type: 'c', major: 5, minor: 0 },
]

/** Symlinks that every container has (config-linux.md, "Default Devices", runtime-linux.md, "Dev symbolic links"). */
const links: readonly (readonly [name: string, target: string])[] = [
  ['fd', '/proc/self/fd'],
  ['stdin', '/proc/self/fd/0'],
  ['stdout', '/proc/self/fd/1'],
  ['stderr', '/proc/self/fd/2'],
  ['ptmx', 'pts/ptmx'],
]

const types: Readonly<Record<LinuxDevice['type'], number>> = { c: S_IFCHR, u: S_IFCHR, b: S_IFBLK, p: S_IFIFO }

/**
 * The calls that fill /dev. In a user namespace nobody may make device nodes; there the host's own are
 * bind-mounted.
 */
export function deviceCalls(devices: readonly LinuxDevice[], root: number, userNamespace: boolean): readonly Call[] {
  const why: CallOptions = { step: 'fill /dev', pointer: '/linux/devices' }
  const extra = new Set(devices.map((device) => device.path))
  const all = [...defaultDevices.filter((device) => !extra.has(device.path)), ...devices]
  const make = userNamespace ? bindDevice : makeNode
  // A rootfs that has /dev as a symlink would have the nodes made on the host (CVE-2026-41579, CVE-2026-47766).
  const dev = openRealDirectory(root, '/dev', why)
  return [
    ...makeDirectoryInRoot(root, '/dev', why),
    dev,
    umask(0, why),
    ...all.flatMap((device) => make(device, root, dev)),
    umask(0o022, why),
    ...links.map(([name, target]) => symlinkat(target, dev, name, { ...why, tolerate: 'EEXIST' })),
    close(dev),
  ]
}

function makeNode(device: LinuxDevice, root: number, dev: Call): readonly Call[] {
  const why: CallOptions = { step: `make the device ${device.path}`, pointer: '/linux/devices' }
  const mode = types[device.type] | (device.fileMode ?? 0o666)
  const number = makeDevice(device.major ?? 0, device.minor ?? 0)
  const { dir, name, before, after } = parentOf(device.path, root, dev, why)
  const made = mknodat(dir, name, mode, number, { ...why, tolerate: 'EEXIST' })
  const { uid = 0, gid = 0 } = device
  const owned = uid === 0 && gid === 0 ? [] : [fchownat(dir, name, uid, gid, AT_SYMLINK_NOFOLLOW, why)]
  return [...before, made, ...owned, ...after]
}

function bindDevice(device: LinuxDevice, root: number): readonly Call[] {
  const why: CallOptions = { step: `bind the device ${device.path}`, pointer: '/linux/devices' }
  const tree = cloneTree(AT_FDCWD, device.path, false, why)
  const target = openInRoot(root, device.path, why)
  const file = makeFileInRoot(root, device.path, why)
  return [tree, ...file, target, attachMount(tree, target, why), close(target), close(tree)]
}

function parentOf(path: string, root: number, dev: Call, why: CallOptions) {
  const parent = posix.dirname(posix.normalize(path))
  const name = posix.basename(path)
  if (parent === '/dev') return { dir: dev, name, before: [], after: [] }
  const dir = openInRoot(root, parent, why)
  return { dir, name, before: [...makeDirectoryInRoot(root, parent, why), dir], after: [close(dir)] }
}
