import { type Call, type CallOptions, type Out, out } from '../linux/call.ts'
import { AT_EMPTY_PATH, AT_FDCWD, close, type Fd, O, openat, S_IFDIR, S_IFMT, statx } from '../linux/calls/files.ts'
import { attachMount, cloneTree, MOUNT_ATTR, mountSetattr } from '../linux/calls/mounts.ts'
import type { Results } from '../linux/runner.ts'
import { newFilesystem } from './filesystem.ts'
import { openInRoot } from './paths.ts'

/** A path that is to be hidden or made read-only, opened; what it is, is known after the batch. */
export interface Target {
  readonly kind: 'masked' | 'readonly'
  readonly path: string
  readonly pointer: string
  readonly handle: Call
  /** The call that tells what is there, and where. */
  readonly look: Call
  readonly stat: Out
}

/** What the first batch found out of a {@link Target}: a descriptor, and whether it is a directory. */
export interface FoundTarget {
  readonly target: Target
  readonly descriptor: Fd
  readonly isDirectory: boolean
}

const statxSize = 256
const statxTypeMask = 1
const statxModeOffset = 28

/** Opens paths inside the root; those that do not exist need neither mask nor protection. */
export function openTargets(
  kind: Target['kind'],
  paths: readonly string[],
  root: number,
): { readonly calls: readonly Call[]; readonly targets: readonly Target[] } {
  const calls: Call[] = []
  const targets = paths.map((path, index): Target => {
    const field = kind === 'masked' ? 'maskedPaths' : 'readonlyPaths'
    const pointer = `/linux/${field}/${index}`
    const why = { step: `look at ${path}`, pointer }
    const handle = openInRoot(root, path, { ...why, tolerate: 'ENOENT' })
    const stat = out(statxSize)
    // Of a path that does not exist the handle is an errno, and so no descriptor.
    const look = statx(handle, '', AT_EMPTY_PATH, statxTypeMask, stat, { ...why, tolerate: 'EBADF' })
    calls.push(handle, look)
    return { kind, path, pointer, handle, look, stat }
  })
  return { calls, targets }
}

/** Reads what {@link openTargets} found. */
function foundTarget(target: Target, descriptor: number, stat: Buffer): FoundTarget {
  const mode = stat.readUInt16LE(statxModeOffset)
  return { target, descriptor, isDirectory: (mode & S_IFMT) === S_IFDIR }
}

/** What the first batch found of `targets`; those that are not there are left out. */
export function foundTargets(targets: readonly Target[], results: Results): readonly FoundTarget[] {
  return targets
    .filter(({ handle }) => results.value(handle) >= 0)
    .map((target) => foundTarget(target, results.value(target.handle), results.bytes(target.stat)))
}

/**
 * Puts the host's /dev/null over masked files and one shared, read-only, empty directory over masked
 * directories; binds read-only paths onto themselves. A path that exists and can't be masked is an
 * error (CVE-2025-31133); the null device is the host's, never the container's.
 */
export function protectCalls(found: readonly FoundTarget[]): readonly Call[] {
  const why: CallOptions = { step: 'prepare masks' }
  const masked = found.filter(({ target }) => target.kind === 'masked')
  const directories = masked.filter((f) => f.isDirectory)
  const calls: Call[] = []
  if (directories.length > 0) {
    const empty = newFilesystem('tmpfs', ['source=tmpfs', 'nr_blocks=1', 'nr_inodes=1'], MOUNT_ATTR.RDONLY, why)
    const [first, ...others] = directories as [FoundTarget, ...FoundTarget[]]
    calls.push(...empty.calls, attachMount(empty.tree, first.descriptor, maskOf(first)), close(first.descriptor))
    // Copied where it is in its place: what is attached nowhere can't be before Linux 6.15.
    calls.push(...others.flatMap((f) => cover(f, empty.tree)), close(empty.tree))
  }
  const files = masked.filter((f) => !f.isDirectory)
  if (files.length > 0) {
    const device = openat(AT_FDCWD, '/dev/null', O.PATH, 0, why)
    calls.push(device, ...files.flatMap((f) => cover(f, device)), close(device))
  }
  for (const f of found) if (f.target.kind === 'readonly') calls.push(...makeReadonly(f))
  return calls
}

/** Puts a copy of the mount that `over` is open on over a path. */
function cover(found: FoundTarget, over: Call): readonly Call[] {
  const tree = cloneTree(over, '', false, maskOf(found))
  return [tree, attachMount(tree, found.descriptor, maskOf(found)), close(tree), close(found.descriptor)]
}

function maskOf({ target }: FoundTarget): CallOptions {
  return { step: `mask ${target.path}`, pointer: target.pointer }
}

function makeReadonly({ target, descriptor }: FoundTarget): readonly Call[] {
  const why = { step: `make ${target.path} read-only`, pointer: target.pointer }
  const tree = cloneTree(descriptor, '', true, why)
  const readonly = mountSetattr(tree, '', { set: MOUNT_ATTR.RDONLY }, true, why)
  return [tree, readonly, attachMount(tree, descriptor, why), close(tree), close(descriptor)]
}
