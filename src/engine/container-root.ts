import { closeSync } from 'node:fs'
import { join } from 'node:path'
import type { IdMapping } from '../bundle/spec.ts'
import { LayeredTree } from '../layer/diff/layered-tree.ts'
import { openTree } from '../layer/diff/open-tree.ts'
import { type Tree, TreeReader } from '../layer/diff/tree-reader.ts'
import type { OverlayMarks } from '../layer/diff/xattrs.ts'
import type { Call, CallOptions } from '../linux/call.ts'
import { AT_FDCWD, chdir, chroot, close, dup3, fchdir, O, O_DIRECTORY, openat } from '../linux/calls/files.ts'
import { MOUNT_ATTR, type MountAttributes, MS, mountSetattr } from '../linux/calls/mounts.ts'
import { CLONE, PR, pidfdOpen, prctl, setns, setresgid, setresuid, unshare } from '../linux/calls/processes.ts'
import { writeIdMaps } from '../linux/id-maps.ts'
import { Remote } from '../linux/remote/remote.ts'
import { thisHost } from '../runtime/host.ts'
import { mountOverlay, type OverlayRootfs, overlayTree } from '../runtime/overlay.ts'
import type { WritableLayer } from '../store/index.ts'
import { removeTree } from '../store/remove-tree.ts'

/** Ids that a container sees, and which of the host's they are. */
export interface ContainerIds {
  readonly uidMappings: readonly IdMapping[]
  readonly gidMappings: readonly IdMapping[]
}

/** What a container's files are made of. */
export interface ContainerRoot {
  readonly layer: WritableLayer
  /** Undefined without a user namespace. */
  readonly ids: ContainerIds | undefined
  /** Its first process, when it runs. */
  readonly pid: number | undefined
}

const why: CallOptions = { step: "look at a container's files" }

/** Descriptor of the directory that becomes the root of a process. */
const entrance = 10

/** Where overlayfs has its marks in the container's layer: root mounts it outside of the container's user namespace. */
export function marksOf({ ids }: ContainerRoot): OverlayMarks {
  return ids === undefined || isPrivileged() ? 'trusted' : 'user'
}

/**
 * Opens what the container has changed, as overlayfs keeps it. Root sees the owners as they are on the host; an ordinary user,
 * who could not read the files of others, as the container sees them.
 */
export async function openUpper({ layer, ids }: ContainerRoot): Promise<TreeReader> {
  return openAs(layer.upper, isPrivileged() ? undefined : ids)
}

/** The files of a container before and after its changes, both as it sees them. To be closed. */
export interface CopiedRoot {
  readonly before: Tree
  readonly after: Tree
  close(): Promise<void>
}

/** Opens what a container whose layers are copied is, and what it was. Undefined where overlayfs keeps the changes. */
export async function openCopied({ layer, ids }: ContainerRoot): Promise<CopiedRoot | undefined> {
  if (layer.copied === undefined) return undefined
  const before = await LayeredTree.open(await prepared({ ids: isPrivileged() ? undefined : ids }), layer.copied)
  try {
    const after = await openAs(layer.upper, ids)
    const close = async (): Promise<void> => {
      await Promise.all([before.close(), after.close()])
    }
    return { before, after, close }
  } catch (error) {
    await before.close()
    throw error
  }
}

/** Reads a directory by a process whose root it is, in a user namespace with those ids. */
async function openAs(directory: string, ids: ContainerIds | undefined): Promise<TreeReader> {
  return TreeReader.open(await enterDirectory(directory, ids))
}

/** Reads a directory of the host that containers may be changing, as {@link openTree} does. */
export function openShared(directory: string): Promise<TreeReader> {
  return isPrivileged() ? openAs(directory, undefined) : openTree(directory)
}

/** A process whose root is a directory, in a user namespace with those ids. */
function enterDirectory(directory: string, ids: ContainerIds | undefined): Promise<Remote> {
  const opened = openat(AT_FDCWD, directory, O.PATH | O_DIRECTORY, 0, why)
  // Opened before: the way there is closed to other ids.
  const way = [opened, dup3(opened, entrance, O.CLOEXEC, why), close(opened)]
  const first = ids === undefined ? [...withoutDevices(), ...way] : way
  return prepared({ ids, first }, (remote) => enterRoot(remote, ids))
}

/**
 * Leaves no device that could be opened: to open one starts it, and the container, which may make any, can put it in the
 * place of a file that is about to be read. In a user namespace nobody can make one.
 */
function withoutDevices(): readonly Call[] {
  return [
    unshare(CLONE.NEWNS, why),
    mountSetattr(AT_FDCWD, '/', { propagation: MS.PRIVATE }, true, why),
    mountSetattr(AT_FDCWD, '/', noDevices, true, why),
  ]
}

/** Attributes of a mount in which devices are none. */
export const noDevices: MountAttributes = { set: MOUNT_ATTR.NODEV }

/**
 * Starts a process whose root is the container's, with the container's ids. When the container runs it shares the mounts with
 * it, volumes too; else it sees the layers stacked, in a mount namespace that nobody else sees. One process at a time may
 * change a stopped container; any number may read.
 */
export async function openRoot(root: ContainerRoot, use: 'read' | 'change'): Promise<Remote> {
  return root.pid === undefined ? openStopped(root, use) : joinRunning(root.pid, root.ids)
}

function joinRunning(pid: number, ids: ContainerIds | undefined): Promise<Remote> {
  return prepared({ ids: undefined }, async (remote) => {
    const process = pidfdOpen(pid, why)
    // Joining the user namespace that one is in is an error.
    const types = CLONE.NEWNS | (ids === undefined ? 0 : CLONE.NEWUSER)
    // The root and the working directory become those of the mount namespace.
    await remote.run([
      process,
      setns(process, types, why),
      ...(ids === undefined ? withoutDevices() : becomeRoot()),
      chdir('/', why),
    ])
  })
}

/** A process that sees the layers of a stopped container stacked as overlayfs shows them. */
async function openStopped({ layer, ids }: ContainerRoot, use: 'read' | 'change'): Promise<Remote> {
  const { lower, upper, work } = layer
  if (lower.length === 0) return enterDirectory(upper, ids)
  // Overlayfs does not mount again what was mounted `volatile`, as it notes there (overlayfs.rst, "Volatile mount"). As long as
  // the machine has not gone down nothing is lost, and then the container is.
  if (use === 'change') await removeTree(join(work, 'work'))
  // Readers are in nobody's way: the directory to work in can serve one mount only.
  const overlay = use === 'change' ? { lower, upper, work } : { lower: [upper, ...lower] }
  if (ids === undefined || !isPrivileged()) return stacked(overlay, ids)
  const { mappedRoot } = await import('./mapped-root.ts')
  const tree = await mappedRoot(layer, ids, overlay)
  try {
    return await prepared({ ids, descriptors: new Map([[entrance, tree]]) }, (remote) => enterRoot(remote, ids))
  } finally {
    closeSync(tree)
  }
}

/** Makes what is open as {@link entrance} the root of a process. */
async function enterRoot(remote: Remote, ids: ContainerIds | undefined): Promise<void> {
  const as = ids === undefined ? [] : becomeRoot()
  await remote.run([...as, fchdir(entrance, why), chroot('.', why), close(entrance)])
}

/** A process whose root is a stack of layers: read-only unless there is an `upper`. */
export function stacked(overlay: OverlayRootfs, ids: ContainerIds | undefined): Promise<Remote> {
  return prepared({ ids, namespaces: CLONE.NEWNS }, async (remote) => {
    const view = viewOf(overlay, ids !== undefined)
    await remote.run([
      mountSetattr(AT_FDCWD, '/', { propagation: MS.SLAVE }, true, why),
      ...view.calls,
      mountSetattr(view.root, '', noDevices, false, why),
      ...(ids === undefined ? [] : becomeRoot()),
      fchdir(view.root, why),
      chroot('.', why),
    ])
  })
}

/** Layers as a mount: attached nowhere, or else where nobody else looks. */
export function viewOf(
  overlay: OverlayRootfs,
  mapped: boolean,
): { readonly calls: readonly Call[]; readonly root: Call; readonly isAttached: boolean } {
  const detached = overlayTree(overlay, mapped, thisHost(), why)
  if (detached !== undefined) return { calls: detached.calls, root: detached.tree, isAttached: false }
  const place = overlay.lower[0] as string
  const root = openat(AT_FDCWD, place, O.PATH | O_DIRECTORY, 0, why)
  return { calls: [...mountOverlay(overlay, place, mapped, why), root], root, isAttached: true }
}

interface Preparation {
  /** A user namespace of its own, with those ids. */
  readonly ids: ContainerIds | undefined
  /** Other new namespaces. */
  readonly namespaces?: number
  /** What it does before it enters them. */
  readonly first?: readonly Call[]
  readonly descriptors?: ReadonlyMap<number, number>
}

/** A process in new namespaces; closed when `work` fails. */
async function prepared(
  { ids, namespaces = 0, first = [], descriptors }: Preparation,
  work: (remote: Remote) => Promise<void> = async () => {},
): Promise<Remote> {
  const mapped = ids !== undefined
  // The id maps are written by way of /proc, which must show the process.
  const remote = Remote.spawn({ dumpable: mapped, descriptors })
  try {
    const flags = namespaces | (mapped ? CLONE.NEWUSER : 0)
    const calls = [...first, ...(flags === 0 ? [] : [unshare(flags, why)])]
    if (calls.length > 0) await remote.run(calls)
    if (mapped) {
      await writeIdMaps(remote.pid, ids)
      await remote.run([prctl(PR.SET_DUMPABLE, 0, 0, why)])
    }
    await work(remote)
    return remote
  } catch (error) {
    await remote.close()
    throw error
  }
}

/** In a user namespace of root's the ids are nobody's; files are made as the container's root. */
function becomeRoot(): readonly Call[] {
  return isPrivileged() ? [setresgid(0, why), setresuid(0, why)] : []
}

function isPrivileged(): boolean {
  return process.geteuid?.() === 0
}
