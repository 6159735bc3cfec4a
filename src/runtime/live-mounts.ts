import { closeSync, readlinkSync, statSync } from 'node:fs'
import { posix } from 'node:path'
import type { Mount, Spec } from '../bundle/spec.ts'
import { InvalidArgumentError, NotFoundError, UnsupportedError } from '../errors.ts'
import { type Call, type CallOptions, out } from '../linux/call.ts'
import { AT_FDCWD, close, dup3, fchdir, fstatfs, O, O_DIRECTORY, openat } from '../linux/calls/files.ts'
import { attachMount, cloneTree, MNT_DETACH, UMOUNT_NOFOLLOW, umount2 } from '../linux/calls/mounts.ts'
import { CLONE, setns } from '../linux/calls/processes.ts'
import { Remote } from '../linux/remote/remote.ts'
import type { Results } from '../linux/runner.ts'
import { fileSystemKind, foundWrong, PROC_SUPER_MAGIC, statfsSize } from './examine.ts'
import { notRunning } from './exec.ts'
import { newFilesystem } from './filesystem.ts'
import { openFirstProcess } from './kill.ts'
import type { LookupOptions } from './lookup.ts'
import { parseMountOptions } from './mount-options.ts'
import { attributeCalls, propagationCalls } from './mounts.ts'
import { makeDirectoryInRoot, makeFileInRoot, openInRoot } from './paths.ts'
import { type ContainerRecord, defaultStateRoot, readConfig, readRecord } from './state-directory.ts'
import { stepFailed } from './step-error.ts'

/** Descriptors of the process that mounts. */
const descriptor = { container: 4, root: 100 } as const

/** File systems that show something of the process that makes them, which is not the container's. */
const ofTheMaker = new Set(['proc', 'sysfs', 'mqueue', 'devpts', 'cgroup', 'cgroup2'])

/**
 * Adds a mount to a container of any process while it runs: a bind mount of a path of this host, or a new file system
 * such as a tmpfs. Its options are those of a config.json. The destination is made where it is missing.
 * @throws NotFoundError when there is no container of that id. @throws ConflictError when it does not run.
 * @throws InvalidArgumentError for a destination in /proc. @throws UnsupportedError for what can be mounted only by the
 * container itself, for mapped owners, and for a container in the host's mount namespace.
 * @throws RuntimeError naming the step that failed.
 */
export async function addMount(id: string, mount: Mount, options: LookupOptions = {}): Promise<void> {
  const root = options.stateRoot ?? defaultStateRoot()
  await addMountTo(await readRecord(root, id), await readConfig(root, id), mount)
}

/**
 * Takes a mount away from a running container: one that was added, or one of its config. Processes that use it keep what
 * they have open.
 * @throws NotFoundError when there is no container of that id, or nothing is mounted there. @throws ConflictError when
 * it does not run. @throws InvalidArgumentError for what protects the container or the host: /proc, /sys, /dev, the root.
 */
export async function removeMount(id: string, destination: string, options: LookupOptions = {}): Promise<void> {
  const root = options.stateRoot ?? defaultStateRoot()
  await removeMountFrom(await readRecord(root, id), await readConfig(root, id), destination)
}

/** Adds a mount to the container of a record. */
export async function addMountTo(record: ContainerRecord, spec: Spec, mount: Mount): Promise<void> {
  const destination = checkedDestination(mount.destination)
  const options = parseMountOptions(mount.options)
  const why: CallOptions = { step: `mount ${destination}` }
  const type = mount.type ?? 'none'
  const isBind = options.bind !== undefined || type === 'bind'
  if (!isBind && ofTheMaker.has(type)) {
    throw new UnsupportedError(`mounting ${type} into a running container`, 'only the container itself can make it')
  }
  if (options.idmap !== undefined || mount.uidMappings !== undefined || options.remount || options.copyUp) {
    throw new UnsupportedError(`mount ${destination}`, 'a running container takes no idmap, remount and tmpcopyup')
  }
  const { calls, tree } = isBind ? bind(mount, options.bind === 'rbind', why) : filesystem(mount, why)
  const attributes = attributeCalls(tree, isBind ? options : { ...options, own: { set: 0, clear: 0 } }, why)
  const isDirectory = !isBind || statSync(mount.source ?? '', { throwIfNoEntry: false })?.isDirectory() === true
  const make = isDirectory ? makeDirectoryInRoot : makeFileInRoot
  const target = openInRoot(descriptor.root, destination, why)
  const kind = out(statfsSize)
  await inMountNamespace(record, spec, async (run) => {
    await run([...calls, ...attributes, ...enterCalls(why), ...make(descriptor.root, destination, why)])
    const found = await run([target, fstatfs(target, kind, why)])
    // A symlink of the image may have led into /proc, where nothing is to be mounted.
    if (fileSystemKind(found, kind) === PROC_SUPER_MAGIC) {
      throw foundWrong(why, `${destination} leads into /proc, and so can't be mounted`)
    }
    const [from, to] = [fixedTree, found.value(target)]
    await run([attachMount(from, to, why), ...propagationCalls(from, options, why)])
  })
}

/** Number under which the new mount is kept between two batches. */
const fixedTree = 101

function bind(mount: Mount, recursive: boolean, why: CallOptions): { calls: readonly Call[]; tree: number } {
  const { source } = mount
  if (source === undefined || !source.startsWith('/')) {
    throw new InvalidArgumentError(`the source of a mount must be an absolute path, not ${JSON.stringify(source)}`)
  }
  const cloned = cloneTree(AT_FDCWD, source, recursive, why)
  return { calls: [cloned, dup3(cloned, fixedTree, O.CLOEXEC, why), close(cloned)], tree: fixedTree }
}

function filesystem(mount: Mount, why: CallOptions): { calls: readonly Call[]; tree: number } {
  const options = parseMountOptions(mount.options)
  const source = mount.source === undefined ? [] : [`source=${mount.source}`]
  const { calls, tree } = newFilesystem(mount.type ?? 'none', [...source, ...options.data], options.own.set, why)
  return { calls: [...calls, dup3(tree, fixedTree, O.CLOEXEC, why), close(tree)], tree: fixedTree }
}

/** Removes a mount from the container of a record. */
export async function removeMountFrom(record: ContainerRecord, spec: Spec, path: string): Promise<void> {
  const destination = checkedDestination(path)
  const why: CallOptions = { step: `unmount ${destination}` }
  const parent = openInRoot(descriptor.root, posix.dirname(destination), why)
  const name = posix.basename(destination)
  const unmounted = umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW, { ...why, tolerate: 'EINVAL' })
  await inMountNamespace(record, spec, async (run, pid) => {
    const opened = (await run([...enterCalls(why), parent])).value(parent)
    // A symlink of the container may lead to what protects the host from it.
    checkedDestination(posix.join(readlinkSync(`/proc/${pid}/fd/${opened}`), name))
    const results = await run([fchdir(opened, why), unmounted])
    if (results.value(unmounted) !== 0) {
      throw new NotFoundError(destination, `nothing is mounted on ${destination} in container ${record.id}`)
    }
  })
}

/** The kernel's file systems, and what is mounted in them to hide and protect. */
const kept = /^\/(proc|sys|dev)(\/|$)/

function checkedDestination(destination: string): string {
  const normal = posix.normalize(`/${destination}/`).slice(0, -1)
  if (!destination.startsWith('/') || normal === '' || kept.test(normal)) {
    throw new InvalidArgumentError(`nothing can be mounted or unmounted on ${JSON.stringify(destination)}`, {
      subject: destination,
      hint: 'Give an absolute path outside of /proc, /sys and /dev.',
    })
  }
  return normal
}

/** Joins the container's mount namespace, which makes its root the one of the process, and opens that. */
function enterCalls(why: CallOptions): readonly Call[] {
  const root = openat(AT_FDCWD, '/', O.PATH | O_DIRECTORY, 0, why)
  return [
    setns(descriptor.container, CLONE.NEWNS, why),
    close(descriptor.container, why),
    root,
    dup3(root, descriptor.root, O.CLOEXEC, why),
    close(root),
  ]
}

type Run = (calls: readonly Call[]) => Promise<Results>

/**
 * Runs batches in a process that can be seen from the host only: it never is in the container's pid namespace.
 * @param work is told the pid of that process.
 */
async function inMountNamespace(
  record: ContainerRecord,
  spec: Spec,
  work: (run: Run, pid: number) => Promise<void>,
): Promise<void> {
  if (spec.linux?.namespaces?.some(({ type }) => type === 'mount') !== true) {
    throw new UnsupportedError('live mounts', `container ${record.id} has no mount namespace of its own`)
  }
  const pidfd = openFirstProcess(record)
  if (pidfd === undefined) throw notRunning(record.id)
  let remote: Remote
  try {
    remote = Remote.spawn({ descriptors: new Map([[descriptor.container, pidfd]]) })
  } finally {
    closeSync(pidfd)
  }
  try {
    await work((calls) => remote.run(calls), remote.pid)
  } catch (cause) {
    throw stepFailed(record.id, cause)
  } finally {
    await remote.close()
  }
}
