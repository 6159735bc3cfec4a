import { closeSync, readdirSync, readFileSync } from 'node:fs'
import type { Call } from '../linux/call.ts'
import { AT_FDCWD, close } from '../linux/calls/files.ts'
import { cloneTree, MOUNT_ATTR, mountSetattr } from '../linux/calls/mounts.ts'
import { CLONE, unshare } from '../linux/calls/processes.ts'
import { Remote } from '../linux/remote/remote.ts'
import { unescapePath } from './cgroups/hierarchies.ts'
import { kernelAtLeast, thisHost } from './host.ts'
import { hasAppArmor, hasSelinux } from './labels.ts'
import { hasResctrl } from './resctrl.ts'
import { openUserNamespaces } from './user-namespaces.ts'

/** What this host can do of what a config may ask for, as far as this process may use it. */
export interface HostFeatures {
  /** Version of the kernel. */
  readonly kernel: string
  /** Types of namespaces that the kernel has. */
  readonly namespaces: readonly string[]
  /** Version 1, version 2, or both beside each other. */
  readonly cgroups: 'none' | 'v1' | 'v2' | 'hybrid'
  /** Whether a process can be born in its cgroup (clone3(2), CLONE_INTO_CGROUP). */
  readonly cloneIntoCgroup: boolean
  readonly apparmor: boolean
  readonly selinux: boolean
  /** Whether a resctrl file system is mounted, for `linux.intelRdt`. */
  readonly intelRdt: boolean
  /** Types of the file systems that are mounted here, and whether the owners of a mount of them can be mapped. */
  readonly idmap: Readonly<Record<string, boolean>>
}

/** Names of namespaces in config.json by the names of the kernel's files. */
const namespaceNames: Readonly<Record<string, string>> = { mnt: 'mount', net: 'network' }

/** Looks at this host. It tries out mapping owners in a process of its own, and mounts nothing. */
export async function hostFeatures(): Promise<HostFeatures> {
  const host = thisHost()
  const { v1, v2 } = host.hierarchies
  const files = readdirSync('/proc/self/ns').filter((name) => !name.endsWith('_for_children'))
  return {
    kernel: host.kernel.join('.'),
    namespaces: files.map((name) => namespaceNames[name] ?? name).sort(),
    cgroups: v2 === undefined ? (v1.length === 0 ? 'none' : 'v1') : v1.length === 0 ? 'v2' : 'hybrid',
    cloneIntoCgroup: v2 !== undefined && kernelAtLeast(host, 5, 7),
    apparmor: hasAppArmor(host),
    selinux: hasSelinux(host),
    intelRdt: hasResctrl(host),
    idmap: host.uid === 0 ? await idMappable() : {},
  }
}

/** The first mount point of each type of file system. */
function mountPoints(): ReadonlyMap<string, string> {
  const points = new Map<string, string>()
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [before = '', after = ''] = line.split(' - ')
    const [path, type] = [before.split(' ')[4], after.split(' ')[0]]
    if (path !== undefined && type !== undefined && type !== '' && !points.has(type))
      points.set(type, unescapePath(path))
  }
  return points
}

async function idMappable(): Promise<Readonly<Record<string, boolean>>> {
  const some = [{ containerID: 0, hostID: 1, size: 1 }]
  const [userNamespace = -1] = await openUserNamespaces([{ uidMappings: some, gidMappings: some }])
  const there = 10
  try {
    await using remote = Remote.spawn({ descriptors: new Map([[there, userNamespace]]) })
    const attempts = [...mountPoints()].map(([type, path]) => {
      const tree = cloneTree(AT_FDCWD, path, false, { tolerate: 'any' })
      const attributes = { set: MOUNT_ATTR.IDMAP, userNamespace: there }
      return { type, tree, mapped: mountSetattr(tree, '', attributes, false, { tolerate: 'any' }) }
    })
    const results = await remote.run([
      unshare(CLONE.NEWNS),
      ...attempts.flatMap(({ tree, mapped }): readonly Call[] => [tree, mapped, close(tree, { tolerate: 'any' })]),
    ])
    return Object.fromEntries(attempts.map(({ type, mapped }) => [type, results.value(mapped) === 0]))
  } finally {
    closeSync(userNamespace)
  }
}
