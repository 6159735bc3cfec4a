import { isAbsolute, join } from 'node:path'
import type { Spec } from '../bundle/spec.ts'
import type { Process } from '../bundle/spec-process.ts'
import { lastOf, lazy } from '../internal/lazy.ts'
import { type Call, type CallOptions, type Out, out } from '../linux/call.ts'
import { AT_FDCWD, chdir, close, F_SETFD, FD_CLOEXEC, fcntl, getcwd, O, openat, read } from '../linux/calls/files.ts'
import {
  CLONE,
  checkPeer,
  clone,
  PR,
  prctl,
  SIGKILL,
  setdomainname,
  sethostname,
  setresgid,
  setresuid,
  setsid,
  unshare,
} from '../linux/calls/processes.ts'
import { cgroupOwner, hasWritableCgroup } from './cgroups/owner.ts'
import { type CgroupPlan, noCgroup, planCgroup } from './cgroups/plan.ts'
import { descriptor } from './descriptors.ts'
import { planDevices } from './devices.ts'
import { type Early, nothingEarly, planEarly } from './early.ts'
import type { Examination } from './examine.ts'
import type { Host } from './host.ts'
import { mountsOnHost, refuseHostChanges, refuseWithoutMounts, sysctlWrites } from './host-guard.ts'
import { type IntelRdtPlan, planIntelRdt } from './intel-rdt.ts'
import { keyringCalls } from './keyring.ts'
import { labelWrites, mountLabelOption } from './labels.ts'
import { type FoundTarget, openTargets, protectCalls, type Target } from './masks.ts'
import { type Watch, watcherCalls } from './monitor.ts'
import { mayNeedHost } from './mount-sources.ts'
import { type MountContext, type MountPlan, planMounts } from './mounts.ts'
import { loopbackCalls, type NamespacePlan, planNamespaces } from './namespaces.ts'
import type { OverlayRootfs } from './overlay.ts'
import { makeDirectoryInRoot } from './paths.ts'
import { channelOf, closeCalls, lastSocket, listenerSocket } from './plan-descriptors.ts'
import { planStart, startContext } from './plan-start.ts'
import { candidates, lookupCalls, type StartContext } from './process.ts'
import { type ProcWrite, procWrites } from './procfs.ts'
import { type RootChange, rootChangeCalls, rootfsCalls } from './rootfs.ts'
import type { Scope } from './systemd/scope.ts'
import { consoleCalls, controlCalls, terminalCalls } from './terminal-calls.ts'
import { warningsOf } from './warnings.ts'
import { type Watched, watchesOf } from './watch.ts'

/** What is planned. */
export interface PlanOptions {
  readonly id: string
  /** A valid config.json. */
  readonly spec: Spec
  /** Absolute path of the bundle; relative paths of the spec start there. */
  readonly bundle: string
  readonly overlay?: OverlayRootfs | undefined
  /** Whether a mount is given that becomes the root. Default false. */
  readonly rootTree?: boolean | undefined
  /** Compiled `linux.seccomp`. */
  readonly filter?: { readonly program: Uint8Array; readonly flags: number; readonly notify?: boolean } | undefined
  /** Whether the container goes on without this process. */
  readonly outlive: boolean
  /** Whether it gets a session keyring of its own. Default true. */
  readonly newKeyring?: boolean | undefined
  /** Whether the root is moved over the old one, where pivot_root(2) can't be: on a ramdisk. Default false. */
  readonly noPivot?: boolean | undefined
  /** Whether it has a cgroup of its own. Default true. */
  readonly cgroup?: boolean | undefined
  /** The unit of systemd that the cgroup is made for. Default none. */
  readonly scope?: Scope | undefined
  /** Whether every cgroup controller counts what the container uses. Default false. */
  readonly accounting?: boolean | undefined
  /** Whether the first process is given a socket at which it can wait for its start. Default false. */
  readonly handOver?: boolean | undefined
  /** Whether what it runs is decided when everything else is done: see {@link planRun}. Default false. */
  readonly parked?: boolean | undefined
  /** Whether a parked first process does before it waits what can be done: see {@link planEarly}. Default false. */
  readonly early?: boolean | undefined
  /** How many descriptors the program gets, from 3 on. Default 0. */
  readonly preserveFds?: number | undefined
  readonly host: Host
}

/**
 * The system calls that make a container, as data. Each list is one batch: the monitor's, then those of
 * the container's first process. What a batch finds out is handed to the function that makes the next.
 */
export interface Plan {
  readonly cgroup: CgroupPlan
  readonly namespaces: NamespacePlan
  readonly intelRdt: IntelRdtPlan
  /** Whether the root is mounted on the host: there is no mount namespace for it, and something is to be mounted in it. */
  readonly isRootOnHost: boolean
  /** Number that the socket of the first process has there; that of the one where it waits follows. */
  readonly channel: number
  /** The call of `monitor` whose result is the pid of the first process, or of the stage before it. */
  readonly clone: Call
  readonly monitor: readonly Call[]
  readonly setup: readonly Call[]
  /** Where `setup` has the kernel write what /proc/self/stat says, if it can be seen and tells the time of the host. */
  readonly stat: Out | undefined
  /** User namespaces that are to be opened for the monitor. */
  readonly idMaps: MountPlan['idMaps']
  /** What `setup` has left to look at. */
  readonly examinations: readonly Examination[]
  /** Calls of `setup` that open what files are mounted on. */
  readonly fileTargets: ReadonlySet<Call>
  /** Paths that `setup` looked at, for {@link finish}. */
  readonly targets: readonly Target[]
  /** Places where the program may be, in order, and the calls of `finish` that look there. */
  readonly programs: readonly string[]
  readonly lookups: readonly Call[]
  /** Where the kernel writes the working directory, for a check that it is inside the root. */
  readonly workingDirectory: Out
  finish(found: readonly FoundTarget[]): readonly Call[]
  /** Undefined when the config has no process. */
  readonly start: ((program: string, pid: number) => readonly Call[]) | undefined
  /** What becoming another program than that of the config takes. */
  readonly context: StartContext
  /** What a parked first process has done with `finish`. */
  readonly early: Early
  /** What the monitor does from then on. */
  watch(of: Watched): Watch
  /** See `warnings` of RuntimeContainer. */
  readonly warnings: readonly string[]
  /** Number of the socket that leads to the seccomp listener, where there is to be one. */
  readonly listener: number | undefined
}

const pathMax = 4096
/** Enough for its name and the 22 fields up to the time of its start. */
const statMax = 512

/**
 * Plans the creation of a container. Pure: it looks at nothing but its arguments. What the first process
 * does is planned when it is asked for: that can be while the kernel makes the process.
 */
export function planContainer(options: PlanOptions): Plan {
  const { spec } = options
  const linux = spec.linux ?? {}
  refuseHostChanges(spec, options.overlay)
  if (options.rootTree === true) refuseWithoutMounts(spec)
  const channel = channelOf(options)
  const namespaces = planNamespaces(linux.namespaces ?? [], {
    timeOffsets: linux.timeOffsets,
    channel,
  })
  const cgroup = options.cgroup === false ? noCgroup : cgroupOf(options)
  const intelRdt = planIntelRdt({
    id: options.id,
    intelRdt: linux.intelRdt,
    host: options.host,
    firstDescriptor: descriptor.resctrl,
  })
  const { process } = spec
  const workingDirectory = out(pathMax)
  // A process in a time namespace would be told another time than everybody else.
  const stat = namespaces.has('time') ? undefined : out(statMax)
  const cloned = cloneCall(namespaces, cgroup, channel)
  const programs = lazy(() => (process === undefined ? [] : candidates(process)))
  const lookups = lazy(() => lookupCalls(programs()))
  const context = lazy(() => startContext(options, namespaces))
  const start = lazy(() => planStart(options, context()))
  const early = lazy(() => (options.early === true ? planEarly(spec, context(), channel + 1) : nothingEarly))
  const masked = lazy(() => openTargets('masked', linux.maskedPaths ?? [], descriptor.root))
  const readonly = lazy(() => openTargets('readonly', linux.readonlyPaths ?? [], descriptor.root))
  const mounts = lazy(() => planMounts(spec.mounts ?? [], mountContext(options, namespaces, cgroup)))
  const forMonitor = mayNeedHost(spec.mounts ?? [], namespaces) ? mounts() : { monitor: [], idMaps: [] }
  const devices = lazy(() =>
    planDevices({
      devices: linux.devices ?? [],
      mounts: spec.mounts ?? [],
      root: descriptor.root,
      userNamespace: namespaces.has('user') || options.host.inUserNamespace,
    }),
  )
  const isRootOnHost = mountsOnHost(spec, options.overlay)
  const warnings = lazy(() => warningsOf(spec, { namespaces, isRootOnHost }, options.host))
  const files = lazy(() => [...mounts().calls, ...devices().calls])
  const setup = lazy(() => [
    ...setupCalls(options, namespaces, [...cgroup.join, ...intelRdt.join, ...lookAtSelf(stat)], files()),
    ...masked().calls,
    ...readonly().calls,
  ])

  return {
    cgroup,
    namespaces,
    intelRdt,
    isRootOnHost,
    channel,
    clone: cloned,
    monitor: [
      ...cgroup.create,
      ...intelRdt.create,
      ...forMonitor.monitor,
      ...namespaces.monitorCalls,
      cloned,
      ...afterClone(cloned, namespaces, cgroup),
    ],
    get setup() {
      return setup()
    },
    stat,
    idMaps: forMonitor.idMaps,
    get examinations() {
      return [...mounts().examinations, ...devices().examinations]
    },
    get fileTargets() {
      return mounts().fileTargets
    },
    get targets() {
      return [...masked().targets, ...readonly().targets]
    },
    get programs() {
      return programs()
    },
    get lookups() {
      return lookups()
    },
    listener: listenerSocket(options),
    workingDirectory,
    finish: lastOf(keyOfFound, (found) => [
      ...protectCalls(found),
      ...rootChangeCalls(descriptor.root, rootChange(options, namespaces), {
        readonly: spec.root?.readonly === true,
        propagation: linux.rootfsPropagation,
      }),
      ...(process?.terminal === true ? ownTerminal(process) : []),
      // Before the working directory is entered: no descriptor is left that leads to the host (CVE-2024-21626).
      ...closeCalls(options),
      ...(options.parked === true
        ? early().calls
        : [
            chdir(process?.cwd ?? '/', { step: 'enter the working directory', pointer: '/process/cwd' }),
            getcwd(workingDirectory, { step: 'check the working directory', pointer: '/process/cwd' }),
            ...lookups(),
          ]),
    ]),
    get start() {
      return start()
    },
    get context() {
      return context()
    },
    get early() {
      return early()
    },
    watch: watchesOf(options, { cgroup, intelRdt }),
    get warnings() {
      return warnings()
    },
  }
}

function lookAtSelf(stat: Out | undefined): readonly Call[] {
  if (stat === undefined) return []
  const any: CallOptions = { step: 'look at the first process', tolerate: 'any' }
  const file = openat(AT_FDCWD, '/proc/self/stat', O.RDONLY, 0, any)
  return [file, read(file, stat, any), close(file, any)]
}

function keyOfFound(found: readonly FoundTarget[]): string {
  return found.map(({ target, descriptor, isDirectory }) => `${target.pointer} ${descriptor} ${isDirectory}`).join()
}

function ownTerminal(process: Process): readonly Call[] {
  const numbers = { socket: descriptor.terminal, master: descriptor.terminalMaster }
  return [...terminalCalls(process, numbers), ...consoleCalls(), ...controlCalls()]
}

function cgroupOf({ id, spec, scope, accounting, host }: PlanOptions): CgroupPlan {
  return planCgroup({
    id,
    path: spec.linux?.cgroupsPath,
    scope,
    resources: spec.linux?.resources,
    accounting: accounting === true || hasWritableCgroup(spec),
    owner: cgroupOwner(spec, host),
    host,
    firstDescriptor: descriptor.cgroup,
  })
}

/** With a process in between, the first one is not there yet; the end of that process must be seen. */
function afterClone(cloned: Call, { stage }: NamespacePlan, cgroup: CgroupPlan): readonly Call[] {
  return stage === undefined ? [...cgroup.late, ...watcherCalls(cloned)] : [close(descriptor.stage)]
}

function rootChange({ noPivot }: PlanOptions, namespaces: NamespacePlan): RootChange {
  if (!namespaces.has('mount')) return 'chroot'
  return noPivot === true ? 'move' : 'pivot'
}

function cloneCall(namespaces: NamespacePlan, cgroup: CgroupPlan, channel: number): Call {
  const why = { step: 'make the namespaces', pointer: '/linux/namespaces' }
  const options = { ...why, childSocket: namespaces.stage === undefined ? channel : descriptor.stage }
  if (cgroup.v2Descriptor === undefined) return clone({ ...options, flags: namespaces.clone })
  return clone({ ...options, flags: namespaces.clone + CLONE.INTO_CGROUP, cgroup: cgroup.v2Descriptor })
}

function setupCalls(
  options: PlanOptions,
  namespaces: NamespacePlan,
  groups: readonly Call[],
  files: readonly Call[],
): readonly Call[] {
  const { spec, bundle, host, outlive } = options
  const linux = spec.linux ?? {}
  const user = namespaces.has('user')
  const { root } = descriptor
  const given = spec.root?.path ?? 'rootfs'
  const rootPath = isAbsolute(given) ? given : join(bundle, given)
  const calls: Call[] = []
  const channel = channelOf(options)
  if (!outlive) {
    const step = { step: 'die with the parent' }
    calls.push(prctl(PR.SET_PDEATHSIG, SIGKILL, 0, step), checkPeer(channel, step))
  }
  // The program must not get the sockets. That the first one closes tells of the start, but where a pipe does (aloneBatch).
  for (let socket = channel; socket <= lastSocket(options); socket++) {
    calls.push(fcntl(socket, F_SETFD, FD_CLOEXEC, { step: 'keep the socket from the program' }))
  }
  calls.push(close(descriptor.monitor), setsid(), ...groups, ...namespaces.joins)
  if (user) calls.push(...becomeRoot())
  calls.push(...procWrites(ownFiles(options, namespaces)))
  if (namespaces.isNew('cgroup')) {
    calls.push(unshare(CLONE.NEWCGROUP, { step: 'make the cgroup namespace', pointer: '/linux/namespaces' }))
  }
  if (namespaces.isNew('network')) calls.push(...loopbackCalls())
  if (spec.hostname) {
    calls.push(sethostname(spec.hostname, { step: 'set the hostname', pointer: '/hostname' }))
  }
  if (spec.domainname) {
    calls.push(setdomainname(spec.domainname, { step: 'set the domainname', pointer: '/domainname' }))
  }
  if (options.newKeyring !== false) calls.push(...keyringCalls(options.id))
  const { overlay } = options
  const propagation = linux.rootfsPropagation
  const mounting = mountsOnHost(spec, overlay) ? 'host' : namespaces.has('mount') ? 'own' : undefined
  const where = { path: rootPath, descriptor: root, mounting } as const
  const tree = options.rootTree === true ? descriptor.rootTree : undefined
  calls.push(...rootfsCalls({ ...where, overlay, tree, propagation, userNamespace: user, host }))
  calls.push(...files)
  calls.push(
    ...makeDirectoryInRoot(root, spec.process?.cwd ?? '/', {
      step: 'make the working directory',
      pointer: '/process/cwd',
    }),
  )
  return calls
}

function mountContext(options: PlanOptions, namespaces: NamespacePlan, cgroup: CgroupPlan): MountContext {
  const { spec, bundle, host } = options
  const label = mountLabelOption(spec, host)
  return { root: descriptor.root, bundle, linux: spec.linux ?? {}, namespaces, cgroup, host, label }
}

/** In a new user namespace the process has the ids that its creator happens to have there. */
function becomeRoot(): readonly Call[] {
  const why = { step: 'become root of the user namespace', pointer: '/linux/uidMappings' }
  return [setresgid(0, why), setresuid(0, why)]
}

/** Settings made by writing to the host's /proc, while it is still in sight. */
function ownFiles({ spec, host }: PlanOptions, namespaces: NamespacePlan): readonly ProcWrite[] {
  // In a user namespace a process can't lower its score, and has no access to the file in one that it has joined: see creation.ts.
  const score = host.uid === 0 && namespaces.has('user') ? undefined : spec.process?.oomScoreAdj
  return [
    ...(spec.process === undefined ? [] : labelWrites(spec.process, host)),
    ...(score === undefined
      ? []
      : [{ path: 'self/oom_score_adj', value: String(score), pointer: '/process/oomScoreAdj' }]),
    ...sysctlWrites(spec),
  ]
}
