import { type Call, filled, type Out, out } from '../linux/call.ts'
import {
  AT_FDCWD,
  AT_REMOVEDIR,
  chdir,
  close,
  closeRange,
  dup3,
  O,
  openat,
  pipe2,
  read,
  unlinkat,
  writev,
} from '../linux/calls/files.ts'
import { MNT_DETACH, UMOUNT_NOFOLLOW, umount2 } from '../linux/calls/mounts.ts'
import {
  POLLIN,
  POLLRDHUP,
  pidfdOpen,
  pidfdSendSignal,
  rusageSize,
  SIGKILL,
  schedYield,
  siginfoSize,
  WNOWAIT,
  waitForEvent,
  waitForExitOf,
} from '../linux/calls/processes.ts'
import { schedSetattr } from '../linux/calls/scheduling.ts'
import { peek } from '../linux/calls/sockets.ts'
import { sendNotice } from '../linux/remote/answer.ts'
import type { Results } from '../linux/runner.ts'
import { descriptor } from './descriptors.ts'
import type { Plan } from './plan.ts'
import type { RootMount } from './root-mount.ts'
import { stateFiles } from './state-directory.ts'

/** Bytes of the controller's file that are kept. */
export const oomTextSize = 512

const any = { tolerate: 'any' } as const

const SCHED_FIFO = 1

const letGo = closeRange(descriptor.init, descriptor.lock - 1, 0, { step: 'detach the monitor' })

/**
 * What the monitor does right after it made the container's first process: it lets go of what is the
 * container's, so that the container's end is seen, and gets hold of the process.
 */
export function watcherCalls(cloned: Call | number): readonly Call[] {
  const why = { step: 'detach the monitor' }
  const pidfd = pidfdOpen(cloned, why)
  return [
    pidfd,
    dup3(pidfd, descriptor.process, O.CLOEXEC, why),
    closeRange(0, 2, 0, why),
    letGo,
    closeRange(descriptor.process + 1, 0xffffffff, 0, why),
    chdir('/', why),
  ]
}

/**
 * The batch of a monitor that needs nothing from its maker: it makes the first process, sends a notice when this has become
 * its program or has ended, and waits for its end. The socket of the first process stays open for the next one, so that its
 * end does not tell of the start. A pipe does, whose other end the first process alone has, until execve(2) closes it.
 */
export function aloneBatch({ monitor, clone }: Pick<Plan, 'monitor' | 'clone'>, watch: Watch): readonly Call[] {
  const why = { step: 'wait for the start' }
  const closeBeginning = close(descriptor.beginning, why)
  const events = [
    { fd: descriptor.begun, events: 0 },
    { fd: descriptor.process, events: POLLIN },
    { fd: descriptor.monitor, events: POLLRDHUP },
  ]
  return [
    // They get the lowest numbers that are free, which are these.
    pipe2(out(8), O.CLOEXEC, why),
    ...monitor.flatMap((call) => {
      if (call === clone) return [call, closeBeginning]
      // The number is that of what stands for the process now, until it has another one.
      return call === letGo ? [closeBeginning] : [call]
    }),
    waitForEvent(events, why),
    sendNotice(descriptor.monitor, why),
    close(descriptor.begun, why),
    ...watch.calls,
  ]
}

/** What a monitor is to watch. */
export interface WatchOptions {
  /** Whether the container goes on when nobody holds the other end of the monitor's socket. */
  readonly outlive: boolean
  /** File that counts the kills of the out-of-memory killer. */
  readonly oomCounter: string | undefined
  /** Directories of its cgroup that nobody else removes. */
  readonly cgroups: readonly string[]
  /** Whether the others are systemd's, which removes them as soon as they are empty. */
  readonly ofSystemd: boolean
  /** Directories of resctrl that were made for it. */
  readonly resctrl: readonly string[]
  /** Its state directory, where the end is recorded for processes that ask later. */
  readonly directory: string
  /** Whether the container's end is another process's business: then it is only looked at. */
  readonly handedOver: boolean
  /**
   * The first process of a container whose mounts are kept until after the answer. Taking them down waits for all
   * processors, and the end of the first process would wait for that.
   */
  readonly keepsMountsOf: number | undefined
  readonly rootMount: RootMount | undefined
}

/** The batches that wait for the end of a container. They are made also when nobody is there to hear of it. */
export interface Watch {
  /** Answered when it has ended. */
  readonly calls: readonly Call[]
  readonly siginfo: Out
  readonly rusage: Out
  readonly oomText: Out
  /** The batch behind it, if there is one. Nobody has to wait. */
  readonly afterwards: readonly Call[]
  /** Calls of either that remove directories of the cgroup, by their paths as planned, and of resctrl. */
  readonly removals: ReadonlyMap<string, Call>
  /** The last batch, for a maker that was killed; none when it is to outlive that. */
  readonly farewell: readonly Call[]
}

/**
 * Plans the monitor's wait. Unless the container is to outlive its maker, it also ends when the maker is
 * gone; its first process may have lost its own parent-death signal (execve of a set-user-ID program and
 * a change of ids clear it), so the monitor kills it.
 */
export function planWatch(options: WatchOptions): Watch {
  const { outlive, oomCounter, directory, handedOver, keepsMountsOf } = options
  const siginfo = out(siginfoSize)
  const rusage = out(rusageSize)
  const oomText = out(oomTextSize)
  const step = 'wait for the container'
  const calls: Call[] = keepsMountsOf === undefined ? [] : [...holdMounts(keepsMountsOf)]
  // Ahead, so that whoever waits for the end need not wait for that, too. They get the numbers of standard streams.
  const counter = oomCounter === undefined ? undefined : openat(AT_FDCWD, oomCounter, O.RDONLY, 0, any)
  const file = openat(AT_FDCWD, `${directory}/exit`, O.WRONLY | O.CREAT | O.EXCL, 0o600, any)
  if (counter !== undefined) calls.push(counter)
  if (!handedOver) calls.push(file)
  // The count goes with the cgroup, and systemd hears of the end before a parent does.
  if (counter !== undefined && options.ofSystemd) calls.push(schedSetattr({ policy: SCHED_FIFO, priority: 1 }, any))
  if (!outlive) {
    const ends = [
      { fd: descriptor.process, events: POLLIN },
      { fd: descriptor.monitor, events: POLLRDHUP },
    ]
    // A process that has ended does not feel the signal.
    calls.push(waitForEvent(ends, { step }), pidfdSendSignal(descriptor.process, SIGKILL, any))
  }
  calls.push(waitForExitOf(descriptor.process, siginfo, rusage, handedOver ? WNOWAIT : 0, { step }))
  if (counter !== undefined) calls.push(read(counter, oomText, any))
  const ended = { siginfo, rusage, oomText }
  if (handedOver) return { calls, ...ended, removals: new Map(), afterwards: [], farewell: [] }
  calls.push(writev(file, [siginfo, rusage, oomText], any))
  const directories = [...options.cgroups, ...options.resctrl]
  const removals = new Map(directories.map((path) => [path, unlinkat(AT_FDCWD, path, AT_REMOVEDIR, any)]))
  const farewell = outlive ? [] : farewellCalls(directory, options.rootMount)
  const rest = [closeRange(0, 2, 0, any), ...removals.values()]
  if (keepsMountsOf === undefined) return { calls: [...calls, ...rest], ...ended, removals, afterwards: [], farewell }
  // Whoever gets the answer comes first, also where it waits for the same processor.
  return { calls, ...ended, removals, afterwards: [schedYield(any), ...rest, close(descriptor.mounts, any)], farewell }
}

/** The directories of a cgroup that the monitor of container `id` has not removed. */
export function notRemoved(
  cgroups: readonly string[],
  { removals }: Watch,
  results: Results,
  id: string,
): readonly string[] {
  const removed = [...removals].filter(([, removal]) => results.value(removal) === 0)
  const paths = new Set(removed.map(([path]) => filled(path, id)))
  return cgroups.filter((path) => !paths.has(path))
}

/** Where that is refused, as it may be to an ordinary user, the end takes as long as it takes. */
function holdMounts(pid: number): readonly Call[] {
  const opened = openat(AT_FDCWD, `/proc/${pid}/ns/mnt`, O.RDONLY, 0, any)
  return [opened, dup3(opened, descriptor.mounts, O.CLOEXEC, any), close(opened, any)]
}

/**
 * Handed over with the wait: when the container's maker was killed, nobody else is there to remove the state. A maker
 * that lives ends the monitor before it closes the socket, or has another batch for it: then this one fails before it
 * removes anything.
 */
function farewellCalls(directory: string, mount: RootMount | undefined): readonly Call[] {
  const more = peek(descriptor.monitor)
  return [
    waitForEvent([{ fd: descriptor.monitor, events: POLLIN | POLLRDHUP }]),
    // A maker that ends before it has read all answers is told of by an error, once.
    peek(descriptor.monitor, { tolerate: 'ECONNRESET' }),
    more,
    // 1 is no flag that it takes.
    dup3(descriptor.monitor, descriptor.init, more),
    ...(mount === undefined ? [] : [umount2(mount.path, MNT_DETACH | UMOUNT_NOFOLLOW, any)]),
    ...stateFiles.map((file) => unlinkat(AT_FDCWD, `${directory}/${file}`, 0, any)),
    unlinkat(AT_FDCWD, directory, AT_REMOVEDIR, any),
  ]
}
