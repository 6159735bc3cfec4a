import { join } from 'node:path'
import type { IdMapping } from '../bundle/spec.ts'
import { TreeReader } from '../layer/diff/tree-reader.ts'
import type { OverlayMarks } from '../layer/diff/xattrs.ts'
import type { Call, CallOptions } from '../linux/call.ts'
import {
  AT_FDCWD,
  AT_REMOVEDIR,
  chdir,
  chroot,
  fchdir,
  O,
  O_DIRECTORY,
  openat,
  unlinkat,
} from '../linux/calls/files.ts'
import { MS, mountSetattr } from '../linux/calls/mounts.ts'
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

/** Where overlayfs has its marks in the container's layer. */
export function marksOf({ ids }: ContainerRoot): OverlayMarks {
  return ids === undefined ? 'trusted' : 'user'
}

/**
 * Opens what the container has changed, as overlayfs keeps it. Root sees the owners as they are on the host; an ordinary user,
 * who could not read the files of others, as the container sees them.
 */
export async function openUpper({ layer, ids }: ContainerRoot): Promise<TreeReader> {
  return TreeReader.open(await openDirectory(layer.upper, isPrivileged() ? undefined : ids))
}

/** A process whose root is a directory, in a user namespace with those ids. */
function openDirectory(directory: string, ids: ContainerIds | undefined): Promise<Remote> {
  return prepared(ids, async (remote) => {
    await remote.run([chroot(directory, why), chdir('/', why)])
  })
}

/**
 * Starts a process whose root is the container's, with the container's ids. When the container runs it shares the mounts with
 * it, volumes too; else it sees the layers stacked, in a mount namespace that nobody else sees.
 */
export async function openRoot(root: ContainerRoot): Promise<Remote> {
  return root.pid === undefined ? openStopped(root) : joinRunning(root.pid, root.ids)
}

function joinRunning(pid: number, ids: ContainerIds | undefined): Promise<Remote> {
  return prepared(undefined, async (remote) => {
    const process = pidfdOpen(pid, why)
    // Joining the user namespace that one is in is an error.
    const types = CLONE.NEWNS | (ids === undefined ? 0 : CLONE.NEWUSER)
    // The root and the working directory become those of the mount namespace.
    await remote.run([process, setns(process, types, why), ...(ids === undefined ? [] : becomeRoot()), chdir('/', why)])
  })
}

/** A process that sees the layers of a stopped container stacked as overlayfs shows them; changes go to its layer. */
async function openStopped({ layer, ids }: ContainerRoot): Promise<Remote> {
  const { lower, upper, work } = layer
  // Overlayfs does not mount again what was mounted `volatile`, as it notes there; the machine has not crashed since.
  await removeTree(join(work, 'work'))
  if (lower.length === 0) {
    return prepared(ids, async (remote) => {
      const enter = openat(AT_FDCWD, upper, O.PATH | O_DIRECTORY, 0, why)
      await remote.run([enter, ...(ids === undefined ? [] : becomeRoot()), fchdir(enter, why), chroot('.', why)])
    })
  }
  return stacked({ lower, upper, work }, ids)
}

/** A process whose root is a stack of layers: read-only unless there is an `upper`. */
export function stacked(overlay: OverlayRootfs, ids: ContainerIds | undefined): Promise<Remote> {
  return prepared(
    ids,
    async (remote) => {
      const view = viewOf(overlay, ids !== undefined)
      await remote.run([
        mountSetattr(AT_FDCWD, '/', { propagation: MS.SLAVE }, true, why),
        ...(overlay.work === undefined ? [] : forgetVolatile(overlay.work)),
        ...view.calls,
        ...(ids === undefined ? [] : becomeRoot()),
        fchdir(view.root, why),
        chroot('.', why),
      ])
    },
    CLONE.NEWNS,
  )
}

/**
 * Takes away the mark that the last mount was one that may lose changes (overlayfs.rst, "Volatile mount"): as long as the
 * machine has not gone down nothing is lost, and then the container is.
 */
function forgetVolatile(work: string): readonly Call[] {
  const mark = `${work}/work/incompat/volatile`
  const tolerant = { ...why, tolerate: 'any' }
  return [unlinkat(AT_FDCWD, `${mark}/dirty`, 0, tolerant), unlinkat(AT_FDCWD, mark, AT_REMOVEDIR, tolerant)]
}

/** Layers as a mount: attached nowhere, or else where nobody else looks. */
export function viewOf(
  overlay: OverlayRootfs,
  mapped: boolean,
): { readonly calls: readonly Call[]; readonly root: Call } {
  const detached = overlayTree(overlay, mapped, thisHost(), why)
  if (detached !== undefined) return { calls: detached.calls, root: detached.tree }
  const place = overlay.lower[0] as string
  const root = openat(AT_FDCWD, place, O.PATH | O_DIRECTORY, 0, why)
  return { calls: [...mountOverlay(overlay, place, mapped, why), root], root }
}

/** A process in a user namespace of its own, when there are ids for it, and in other new namespaces; closed when `work` fails. */
async function prepared(
  ids: ContainerIds | undefined,
  work: (remote: Remote) => Promise<void>,
  namespaces = 0,
): Promise<Remote> {
  const mapped = ids !== undefined
  // The id maps are written by way of /proc, which must show the process.
  const remote = Remote.spawn({ dumpable: mapped })
  try {
    const flags = namespaces | (mapped ? CLONE.NEWUSER : 0)
    if (flags !== 0) await remote.run([unshare(flags, why)])
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
