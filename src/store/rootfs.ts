import { randomUUID } from 'node:crypto'
import { closeSync, readFileSync, statSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { SyscallError } from '../errors.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import { ownership, spawnOwner } from '../layer/apply/target.ts'
import { mapOwners } from '../layer/mapped-layers.ts'
import { AT_FDCWD, chdir, lsetxattr, unlinkat } from '../linux/calls/files.ts'
import { MS, mount, mountSetattr } from '../linux/calls/mounts.ts'
import { CLONE, unshare } from '../linux/calls/processes.ts'
import { makeUserNamespace } from '../linux/user-namespace.ts'
import { currentBootId } from './layer-record.ts'
import type { StorePaths } from './paths.ts'
import { WorkDirectory } from './work-directory.ts'

/** How the layers of an image become the root file system of a container. */
export interface Rootfs {
  /** `overlay`: the kernel stacks them (overlayfs). `copy`: they are copied into a directory for each container. */
  readonly kind: 'overlay' | 'copy'
  /** Why they are copied, when nobody has asked for it. */
  readonly reason?: string
}

/** Where the process that tries has a user namespace. */
const userNamespace = 10
const anyId = [{ containerID: 0, hostID: 1, size: 1 }]
/** Of which container. */
export interface RootfsOptions {
  /** Whether it is one of root's in a user namespace: owners of layers are to be mapped then. Default false. */
  readonly userNamespace?: boolean | undefined
}

const why = { step: 'try whether layers can be stacked' }
/** Failures that say nothing about overlayfs. */
const notItsFault: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EIO', 'EMFILE', 'ENFILE', 'ENOMEM', 'EROFS'])

/**
 * Finds out whether overlayfs can be mounted with its directories in this store, by doing it in a mount namespace of its own.
 * What has worked is noted, and not tried again in the same boot of the machine.
 * @param mapped Whether the owners of layers are to be mapped, for the user namespaces of root's containers.
 * @throws SyscallError for a failure of another kind, such as a full disk.
 */
export async function probeRootfs(paths: StorePaths, mapped = false): Promise<Rootfs> {
  try {
    return await probe(paths, mapped)
  } catch (error) {
    throw fileError(error, 'trying whether layers can be stacked', paths.root)
  }
}

async function probe(paths: StorePaths, mapped: boolean): Promise<Rootfs> {
  const key = `${await currentBootId()} ${statSync(paths.containers).dev} ${process.geteuid?.()}`
  const note = join(paths.root, mapped ? 'overlay-idmapped' : 'overlay')
  if (readNote(note) === key) return { kind: 'overlay' }
  const work = await WorkDirectory.claim(paths.temporary, `overlay-${randomUUID()}`)
  try {
    await stackQuickly(work.path, mapped)
  } catch (error) {
    if (!(error instanceof SyscallError) || notItsFault.has(error.errnoName)) throw error
    const how = mapped ? ' with mapped owners' : ''
    return { kind: 'copy', reason: `overlayfs can't be used in ${paths.root}${how}: ${error.message}` }
  } finally {
    await work.release()
  }
  // A note that is cut short is none.
  await writeFile(note, key, { mode: 0o600 })
  return { kind: 'overlay' }
}

function readNote(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1')
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}

/**
 * {@link stack} as `volatile`: else overlayfs, when it is unmounted, puts the whole file system below it on the disk, with all
 * that others are writing there. Kernels before 5.10 know no such thing.
 */
async function stackQuickly(directory: string, mapped: boolean): Promise<void> {
  try {
    await stack(join(directory, 'volatile'), ',volatile', mapped)
  } catch (error) {
    if (!(error instanceof SyscallError) || error.errnoName !== 'EINVAL') throw error
    await stack(join(directory, 'synced'), '', mapped)
  }
}

/** Stacks two directories and removes a file of the lower one, for which overlayfs makes its mark in the upper one. */
async function stack(directory: string, more: string, mapped: boolean): Promise<void> {
  for (const name of ['lower', 'upper', 'work', 'merged']) {
    await mkdir(join(directory, name), { recursive: true, mode: 0o700 })
  }
  await writeFile(join(directory, 'lower', 'file'), '')
  const [marks, attribute] = (await ownership()).userNamespace ? [',userxattr', 'user'] : ['', 'trusted']
  const options = `lowerdir=lower,upperdir=upper,workdir=work,index=off${marks}${more}`
  const namespace = mapped ? await makeUserNamespace({ uidMappings: anyId, gidMappings: anyId }, why.step) : undefined
  const descriptors = new Map<number, number>(namespace === undefined ? [] : [[userNamespace, namespace]])
  try {
    await using process = await spawnOwner(why.step, descriptors)
    await process.run([
      unshare(CLONE.NEWNS, why),
      mountSetattr(AT_FDCWD, '/', { propagation: MS.SLAVE }, true, why),
      ...(mapped ? mapOwners([join(directory, 'lower')], userNamespace, why) : []),
      chdir(directory, why),
      // As it marks a directory that replaces one below; where it can't, that fails with EIO, later.
      lsetxattr('merged', `${attribute}.overlay.opaque`, Buffer.from('y'), 0, why),
      mount('overlay', 'merged', 'overlay', 0, options, why),
      unlinkat(AT_FDCWD, 'merged/file', 0, why),
    ])
  } finally {
    if (namespace !== undefined) closeSync(namespace)
  }
}
