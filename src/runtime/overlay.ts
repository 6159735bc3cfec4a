import type { Call, CallOptions } from '../linux/call.ts'
import { AT_FDCWD, chdir, close, closeRange, dup3, O, O_DIRECTORY, openat } from '../linux/calls/files.ts'
import {
  cloneTree,
  fsconfigCreate,
  fsconfigFlag,
  fsconfigString,
  fsmount,
  fsopen,
  MOUNT_ATTR,
  mount,
  mountSetattr,
} from '../linux/calls/mounts.ts'
import { type Host, kernelAtLeast } from './host.ts'

/**
 * An overlay that the container's first process mounts in its own mount namespace: nothing is mounted
 * on the host, and the kernel unmounts it with the container.
 */
export interface OverlayRootfs {
  /** Directories of the layers, topmost first. Absolute. */
  readonly lower: readonly string[]
  /** Directory that takes the changes, and one beside it that overlayfs works in; none of them: read-only. */
  readonly upper?: string | undefined
  readonly work?: string | undefined
  /** Loses what a crash of the machine interrupts, and is faster for it. Default false. */
  readonly volatile?: boolean | undefined
}

/** Longest value that fsconfig(2) takes. */
const longestValue = 255

/** First of the descriptors that layers are opened as where their paths can't be handed over. */
const firstLayer = 200

/**
 * The overlay as a mount that is attached nowhere. Undefined for a kernel that can't take the layers one at
 * a time (before Linux 6.7): see {@link mountOverlay}.
 */
export function overlayTree(
  overlay: OverlayRootfs,
  userNamespace: boolean,
  host: Pick<Host, 'kernel'>,
  why: CallOptions,
): { readonly calls: readonly Call[]; readonly tree: Call } | undefined {
  const { lower, upper } = overlay
  const only = lower[0]
  if (upper === undefined && lower.length === 1 && only !== undefined) {
    // An overlay has at least two layers.
    const tree = cloneTree(AT_FDCWD, only, false, why)
    return { calls: [tree, mountSetattr(tree, '', { set: MOUNT_ATTR.RDONLY }, false, why)], tree }
  }
  if (!kernelAtLeast(host, 6, 7)) return undefined
  const context = fsopen('overlay', why)
  const layers = new Layers(why)
  const set = (key: string, path: string): Call => fsconfigString(context, key, layers.reachable(path), why)
  const configured = lower.map((directory) => set('lowerdir+', directory))
  if (upper !== undefined) configured.push(set('upperdir', upper), set('workdir', overlay.work ?? ''))
  const options = optionsOf(overlay, userNamespace).map(([key, value]) =>
    value === undefined ? fsconfigFlag(context, key, why) : fsconfigString(context, key, value, why),
  )
  const tree = fsmount(context, 0, why)
  return {
    calls: [
      ...layers.opened,
      context,
      fsconfigString(context, 'source', 'overlay', why),
      ...configured,
      ...options,
      fsconfigCreate(context, why),
      tree,
      close(context),
      ...layers.closed(),
    ],
    tree,
  }
}

/**
 * Mounts the overlay on `path` by mount(2), whose options are one string of at most a page: the layers
 * are opened before, and named there by the numbers of their descriptors. That also spares them from
 * being escaped. Changes the working directory.
 */
export function mountOverlay(
  overlay: OverlayRootfs,
  path: string,
  userNamespace: boolean,
  why: CallOptions,
): readonly Call[] {
  const layers = new Layers(why)
  const options = [`lowerdir=${overlay.lower.map((directory) => layers.open(directory)).join(':')}`]
  if (overlay.upper !== undefined) {
    options.push(`upperdir=${layers.open(overlay.upper)}`, `workdir=${layers.open(overlay.work ?? '')}`)
  }
  options.push(...optionsOf(overlay, userNamespace).map((option) => option.join('=')))
  return [
    ...layers.opened,
    chdir('/proc/self/fd', why),
    mount('overlay', path, 'overlay', 0, options.join(','), why),
    ...layers.closed(),
  ]
}

type OverlayOption = readonly [key: string, value?: string]

/**
 * A machine may have these on by default. Then the upper directory has files without content and directories that point
 * elsewhere, which nobody but overlayfs can read, and it can't be mounted once more beside a container that has been left.
 */
const plainUpper: readonly OverlayOption[] = [
  ['redirect_dir', 'off'],
  ['metacopy', 'off'],
]

function optionsOf({ upper, volatile }: OverlayRootfs, userNamespace: boolean): readonly OverlayOption[] {
  const changing: readonly OverlayOption[] =
    upper === undefined ? [] : [...(volatile === true ? [['volatile'] as const] : []), ['index', 'off']]
  // Trusted attributes are out of reach there, and with them all that is off by this.
  if (userNamespace) return [...changing, ['userxattr']]
  return upper === undefined ? changing : [...changing, ...plainUpper]
}

/** Directories that are opened to be named by number. */
class Layers {
  readonly opened: Call[] = []
  private next = firstLayer
  private readonly why: CallOptions

  constructor(why: CallOptions) {
    this.why = why
  }

  /** Opens a directory. @returns the number of its descriptor. */
  open(path: string): number {
    const opened = openat(AT_FDCWD, path, O.PATH | O_DIRECTORY, 0, this.why)
    this.opened.push(opened, dup3(opened, this.next, O.CLOEXEC, this.why), close(opened))
    return this.next++
  }

  /** A path that fsconfig(2) takes. */
  reachable(path: string): string {
    return Buffer.byteLength(path) <= longestValue ? path : `/proc/self/fd/${this.open(path)}`
  }

  closed(): readonly Call[] {
    return this.next === firstLayer ? [] : [closeRange(firstLayer, this.next - 1, 0, this.why)]
  }
}
