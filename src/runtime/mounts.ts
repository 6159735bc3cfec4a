import type { Mount } from '../bundle/spec.ts'
import { InvalidArgumentError, UnsupportedError } from '../errors.ts'
import type { Call, CallOptions, Out } from '../linux/call.ts'
import { out } from '../linux/call.ts'
import {
  AT_EMPTY_PATH,
  close,
  dup3,
  type Fd,
  fchmod,
  fstatfs,
  O,
  O_DIRECTORY,
  openat,
  statx,
} from '../linux/calls/files.ts'
import { attachMount, cloneTree, MOUNT_ATTR, MS, mount as mountCall, mountSetattr } from '../linux/calls/mounts.ts'
import { type CgroupView, cgroupMounts } from './cgroups/mount.ts'
import { copyUp } from './copy-up.ts'
import { descriptor } from './descriptors.ts'
import {
  type Examination,
  fileKind,
  fileSystemKind,
  foundWrong,
  PROC_SUPER_MAGIC,
  statfsSize,
  statxSize,
} from './examine.ts'
import { fitsFsconfig, newFilesystem } from './filesystem.ts'
import {
  adapted,
  destinationOf,
  isBelowKernelMount,
  needsRealDirectory,
  refuseInsideProc,
  refuseOtherProc,
} from './kernel-mounts.ts'
import { type AttributeChange, type MountOptions, parseMountOptions } from './mount-options.ts'
import { MountSources, type SourceContext } from './mount-sources.ts'
import { makeDirectoryInRoot, makeFileInRoot, openInRoot, openRealDirectory } from './paths.ts'

/** What mounts need to know of the host and the container. */
export interface MountContext extends SourceContext, Pick<CgroupView, 'cgroup'> {
  /** Descriptor of the container's root. */
  readonly root: number
  readonly host: SourceContext['host'] & CgroupView['host'] & { isDirectory(path: string): boolean }
  /** `context=…` of new file systems. */
  readonly label: string | undefined
}

/** The mounts of a container as system calls. */
export interface MountPlan {
  /** Made by the monitor, before the first process is there. */
  readonly monitor: readonly Call[]
  /** Made by the first process, in order. */
  readonly calls: readonly Call[]
  /** User namespaces that owners are mapped by, from {@link descriptor.userNamespaces} on. */
  readonly idMaps: MountSources['idMaps']
  readonly examinations: readonly Examination[]
  /** Calls that open what a file is mounted on: where it is missing, it is a file that has to be made. */
  readonly fileTargets: ReadonlySet<Call>
}

/** Plans `mounts` inside the container's root (runtime-spec, config.md, "Mounts"). */
export function planMounts(mounts: readonly Mount[], context: MountContext): MountPlan {
  const planner = new MountPlanner(context)
  const calls = mounts.flatMap((mount, index) => planner.plan(mount, index))
  const { monitor, idMaps } = planner.sources
  return { monitor, calls, idMaps, examinations: planner.examinations, fileTargets: planner.fileTargets }
}

/** Descriptors for more would be needed. */
const maxCopies = 16

/** STATX_MODE of statx(2). */
const statxMode = 2
/** Mode of a tmpfs for which nobody has asked for another one. */
const tmpfsMode = 0o1777

const noChange: AttributeChange = { set: 0, clear: 0 }

class MountPlanner {
  readonly sources: MountSources
  readonly examinations: Examination[] = []
  readonly fileTargets = new Set<Call>()
  private readonly context: MountContext
  /** Mounts that are planned already. */
  private readonly before: Mount[] = []
  private copies = 0
  private kept = 0

  constructor(context: MountContext) {
    this.context = context
    this.sources = new MountSources(context)
  }

  plan(asked: Mount, index: number): readonly Call[] {
    const calls = this.planned(asked, index)
    this.before.push(asked)
    return calls
  }

  private planned(asked: Mount, index: number): readonly Call[] {
    const why: CallOptions = { step: `mount ${asked.destination}`, pointer: `/mounts/${index}` }
    const mount = adapted(asked, this.context.namespaces, this.context.host)
    refuseInsideProc(destinationOf(mount), `/mounts/${index}`)
    const options = parseMountOptions(mount.options)
    const isBind = options.bind !== undefined || mount.type === 'bind'
    if (options.copyUp && (isBind || mount.type !== 'tmpfs')) {
      throw new InvalidArgumentError(`${why.pointer}: tmpcopyup is for mounts of type tmpfs`)
    }
    if (options.remount) return this.remount(mount, options, why)
    if (!isBind) refuseOtherProc(mount, destinationOf(mount), `/mounts/${index}`)
    if (mount.type === 'cgroup' || mount.type === 'cgroup2') return this.cgroup(mount, options, why)
    if (isBind) return this.bind(mount, options, why)
    return this.filesystem(mount, options, why)
  }

  private bind(mount: Mount, options: MountOptions, why: CallOptions): readonly Call[] {
    const { tree, calls } = this.sources.open(mount, options, why)
    const isDirectory = this.context.host.isDirectory(this.sources.pathOf(mount))
    const make = isDirectory ? makeDirectoryInRoot : makeFileInRoot
    return [
      ...calls,
      ...attributeCalls(tree, options, why),
      ...make(this.context.root, mount.destination, why),
      ...this.isProc(tree, mount, why),
      ...this.attach(tree, mount, why, !isDirectory),
      ...propagationCalls(tree, options, why),
      close(tree),
    ]
  }

  private filesystem(mount: Mount, options: MountOptions, why: CallOptions): readonly Call[] {
    const { label } = this.context
    const type = mount.type ?? 'none'
    const labelled = label !== undefined && !['proc', 'sysfs', 'mqueue'].includes(type)
    const parameters = [...superBlockParameters(options.superBlock), ...options.data, ...(labelled ? [label] : [])]
    const made = makeDirectoryInRoot(this.context.root, mount.destination, why)
    if (needsLegacyMount(options, parameters)) return [...made, ...this.legacy(mount, options, why, type)]
    const source = mount.source === undefined ? [] : [`source=${mount.source}`]
    if (options.copyUp) {
      const { calls, tree } = newFilesystem(type, [...source, ...parameters], 0, why)
      return [...calls, ...made, ...this.copiedUp(tree, mount, options, why), close(tree)]
    }
    if (type === 'tmpfs' && !parameters.some((parameter) => parameter.startsWith('mode='))) {
      const { calls, tree } = newFilesystem(type, [...source, ...parameters], 0, why)
      const mapped = this.sources.mapOwn(tree, mount, options, why)
      return [...calls, ...mapped, ...this.withModeBelow(tree, made, mount, options, why), close(tree)]
    }
    const { calls, tree } = newFilesystem(type, [...source, ...parameters], options.own.set, why)
    return [
      ...calls,
      ...attributeCalls(tree, { ...options, own: noChange }, why),
      ...this.sources.mapOwn(tree, mount, options, why),
      ...made,
      ...this.attach(tree, mount, why),
      ...propagationCalls(tree, options, why),
      close(tree),
    ]
  }

  /**
   * Puts a new tmpfs over a directory and gives it the mode of that, if it was there before: as other runtimes have it. It
   * becomes read-only, where it is to be, after that.
   */
  private withModeBelow(
    tree: Call,
    made: readonly Call[],
    mount: Mount,
    options: MountOptions,
    why: CallOptions,
  ): readonly Call[] {
    const kept = descriptor.tmpfs + this.kept++
    const root = openat(tree, '.', O.RDONLY | O_DIRECTORY, 0, why)
    const { calls, fd } = this.openTarget(mount, why)
    const below = out(statxSize)
    const making = made.findLast(({ name }) => name === 'mkdirat')
    this.examinations.push(async (results, runner) => {
      const wasThere = making === undefined || results.value(making) !== 0
      const mode = wasThere ? fileKind(results, below).mode & 0o7777 : tmpfsMode
      await runner.run([
        // A later mount of the config may have made it read-only.
        ...(mode === tmpfsMode ? [] : [fchmod(kept, mode, { ...why, tolerate: 'EROFS' })]),
        ...attributeCalls(kept, options, why),
        close(kept, why),
      ])
    })
    return [
      ...[root, dup3(root, kept, O.CLOEXEC, why), close(root)],
      ...made,
      ...calls,
      statx(fd, '', AT_EMPTY_PATH, statxMode, below, why),
      attachMount(tree, fd, why),
      close(fd),
      ...propagationCalls(tree, options, why),
    ]
  }

  private cgroup(mount: Mount, options: MountOptions, why: CallOptions): readonly Call[] {
    const { root, host, cgroup, namespaces } = this.context
    const view = { host, cgroup, namespace: namespaces.isNew('cgroup') }
    const { calls, tree, inside } = cgroupMounts(view, options.own.set, why)
    const made = makeDirectoryInRoot(root, mount.destination, why)
    const attached = this.attach(tree, mount, why)
    return [...calls, ...made, ...attached, ...inside, ...propagationCalls(tree, options, why), close(tree)]
  }

  /**
   * Puts a new tmpfs over a directory, whose content is copied to it when all mounts are made: from a descriptor of the
   * directory, and by another mount of the tmpfs, in which nothing is mounted.
   */
  private copiedUp(tree: Call, mount: Mount, options: MountOptions, why: CallOptions): readonly Call[] {
    const from = descriptor.copies + 3 * this.copies++
    if (this.copies > maxCopies) {
      throw new InvalidArgumentError(`${why.pointer}: at most ${maxCopies} mounts can have tmpcopyup`)
    }
    const { calls, fd } = this.openTarget(mount, why)
    const below = openat(fd, '.', O.RDONLY | O_DIRECTORY, 0, why)
    const own = cloneTree(tree, '', false, why)
    const keepMode = options.data.some((option) => option.startsWith('mode='))
    this.examinations.push(async (_, runner) => {
      await copyUp(runner, from, from + 1, why, keepMode)
      // Read-only for one only now.
      const changes = attributeCalls(from + 2, options, why)
      if (changes.length > 0) await runner.run(changes)
    })
    return [
      ...calls,
      below,
      dup3(below, from, O.CLOEXEC, why),
      close(below),
      attachMount(tree, fd, why),
      close(fd),
      own,
      dup3(own, from + 1, O.CLOEXEC, why),
      close(own),
      dup3(tree, from + 2, O.CLOEXEC, why),
      ...propagationCalls(tree, options, why),
    ]
  }

  /** By mount(2), which is handed a path: the one of a descriptor. */
  private legacy(mount: Mount, options: MountOptions, why: CallOptions, type: string): readonly Call[] {
    const target = this.openTarget(mount, why)
    if (options.idmap !== undefined || mount.uidMappings !== undefined) {
      throw new UnsupportedError(`${why.pointer}`, 'the owners of a mount with such options can not be mapped')
    }
    const flags = options.superBlock | flagsOf(options.own.set)
    const path = `/proc/self/fd/${descriptor.target}`
    const { label } = this.context
    const data = [...options.data, ...(label === undefined ? [] : [label.replace(/=(.*)/, '="$1"')])]
    const named = mountCall(mount.source ?? 'none', path, type, flags, data.join(','), why)
    const made = this.openTarget(mount, why)
    return [
      ...target.calls,
      dup3(target.fd, descriptor.target, O.CLOEXEC, why),
      { ...named, path: mount.destination },
      close(target.fd),
      ...made.calls,
      ...attributeCalls(made.fd, { ...options, own: noChange }, why),
      ...propagationCalls(made.fd, options, why),
      close(made.fd),
    ]
  }

  /** Changes the mount that is there; of a file system, with all that mounts of it have in common. */
  private remount(mount: Mount, options: MountOptions, why: CallOptions): readonly Call[] {
    const { fd, calls } = this.openTarget(mount, why)
    const changes = [...attributeCalls(fd, options, why), ...propagationCalls(fd, options, why), close(fd)]
    if (options.bind !== undefined) return [...calls, ...changes]
    const path = `/proc/self/fd/${descriptor.target}`
    const flags = MS.REMOUNT | options.superBlock | flagsOf(options.own.set)
    const remounted = mountCall(0, path, 0, flags, options.data.join(','), why)
    const named = { ...remounted, path: mount.destination }
    return [...calls, dup3(fd, descriptor.target, O.CLOEXEC, why), named, ...changes]
  }

  /** Puts a detached mount on its destination. */
  private attach(tree: Fd, mount: Mount, why: CallOptions, onFile = false): readonly Call[] {
    const { calls, fd } = this.openTarget(mount, why)
    if (onFile) this.fileTargets.add(fd)
    return [...calls, attachMount(tree, fd, why), close(fd)]
  }

  private openTarget(mount: Mount, why: CallOptions): { readonly calls: readonly Call[]; readonly fd: Call } {
    const destination = destinationOf(mount)
    const open = needsRealDirectory(mount, destination) ? openRealDirectory : openInRoot
    const fd = open(this.context.root, mount.destination, why)
    if (open === openRealDirectory || isBelowKernelMount(destination, this.before)) return { calls: [fd], fd }
    // A symlink of the image may have led into /proc, where nothing is to be mounted.
    const kind = out(statfsSize)
    this.examinations.push((results) => {
      if (fileSystemKind(results, kind) === PROC_SUPER_MAGIC) {
        throw foundWrong(why, `${mount.destination} leads into /proc, and so can't be mounted`)
      }
    })
    return { calls: [fd, fstatfs(fd, kind, why)], fd }
  }

  /** What is bound on /proc must be one: programs trust what they find there. */
  private isProc(tree: Fd, mount: Mount, why: CallOptions): readonly Call[] {
    if (destinationOf(mount) !== '/proc') return []
    const kind: Out = out(statfsSize)
    this.examinations.push((results) => {
      if (fileSystemKind(results, kind) !== PROC_SUPER_MAGIC) {
        throw foundWrong(why, 'only a proc file system can be mounted on /proc, and the source is none')
      }
    })
    return [fstatfs(tree, kind, why)]
  }
}

/** Changes the attributes of a mount, attached or not. */
export function attributeCalls(tree: Fd, { own, recursive }: MountOptions, why: CallOptions): readonly Call[] {
  const calls: Call[] = []
  if (own.set !== 0 || own.clear !== 0) calls.push(mountSetattr(tree, '', own, false, why))
  if (recursive.set !== 0 || recursive.clear !== 0) calls.push(mountSetattr(tree, '', recursive, true, why))
  return calls
}

/** When the mount is in its place: what is put on a shared mount becomes shared itself. */
export function propagationCalls(tree: Fd, options: MountOptions, why: CallOptions): readonly Call[] {
  return options.propagation.map(({ type, recursive }) => mountSetattr(tree, '', { propagation: type }, recursive, why))
}

/** What fsconfig(2) has no word for, or no room. */
function needsLegacyMount(options: MountOptions, parameters: readonly string[]): boolean {
  return (options.superBlock & (MS.I_VERSION | MS.SILENT | MS.POSIXACL)) !== 0 || !fitsFsconfig(parameters)
}

const parameterNames: readonly (readonly [bit: number, name: string])[] = [
  [MS.SYNCHRONOUS, 'sync'],
  [MS.DIRSYNC, 'dirsync'],
  [MS.MANDLOCK, 'mand'],
  [MS.LAZYTIME, 'lazytime'],
]

function superBlockParameters(bits: number): readonly string[] {
  return parameterNames.filter(([bit]) => (bits & bit) !== 0).map(([, name]) => name)
}

/** Flags of mount(2) for attributes of mount_setattr(2). */
function flagsOf(set: number): number {
  const pairs: readonly (readonly [attribute: number, flag: number])[] = [
    [MOUNT_ATTR.RDONLY, MS.RDONLY],
    [MOUNT_ATTR.NOSUID, MS.NOSUID],
    [MOUNT_ATTR.NODEV, MS.NODEV],
    [MOUNT_ATTR.NOEXEC, MS.NOEXEC],
    [MOUNT_ATTR.NOATIME, MS.NOATIME],
    [MOUNT_ATTR.STRICTATIME, MS.STRICTATIME],
    [MOUNT_ATTR.NODIRATIME, MS.NODIRATIME],
    [MOUNT_ATTR.NOSYMFOLLOW, MS.NOSYMFOLLOW],
  ]
  return pairs.reduce((flags, [attribute, flag]) => ((set & attribute) === 0 ? flags : flags | flag), 0)
}
