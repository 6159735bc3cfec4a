import { closeSync } from 'node:fs'
import { InvalidArgumentError } from '../../errors.ts'
import { hostArchitecture } from '../architecture.ts'
import { type Call, out } from '../call.ts'
import { closeRange } from '../calls/files.ts'
import {
  AF_UNIX,
  checkPeer,
  kill,
  PR,
  prctl,
  SIGKILL,
  SOCK_CLOEXEC,
  SOCK_STREAM,
  socketpair,
} from '../calls/processes.ts'
import { libc, type Memory } from '../libc.ts'
import { perform, performFor } from '../local.ts'
import type { CallRunner, Results } from '../runner.ts'
import { Channel, type PostOptions, type RunOptions } from './channel.ts'
import { orphan, reap, reapOrphans, reapSoon } from './reap.ts'
import { type Descriptors, spawnProgram } from './spawn.ts'

/** Descriptor of a remote process on which it takes its batches. */
export const channelDescriptor = 3

/** How a remote process is started. */
export interface RemoteOptions {
  /** Descriptors it gets, by the number they have there: not 3. 0, 1 and 2 are /dev/null by default. */
  readonly descriptors?: Descriptors | undefined
  /** Whether it goes on when this process ends. Default false: it is killed then. */
  readonly outlive?: boolean | undefined
  /**
   * Whether /proc shows its descriptors and memory to processes of the same user. Default false; an ordinary
   * user must allow it until the id maps of a user namespace are written.
   */
  readonly dumpable?: boolean | undefined
  /** See `text` of ChannelOptions. */
  readonly text?: string | undefined
}

/**
 * A small process that makes system calls for this one: it can enter namespaces, change its root
 * and become another program, which Node can't.
 */
export class Remote implements CallRunner, AsyncDisposable {
  /** Bytes that one batch may take, arguments included. */
  readonly capacity: number = Channel.capacity
  readonly pid: number
  /** Resolves when its socket is closed: it ended, or closed it. */
  readonly closed: Promise<void>
  private readonly channel: Channel
  private ending: Promise<void> | undefined

  private constructor(pid: number, channel: Channel) {
    this.pid = pid
    this.channel = channel
    this.closed = channel.closed
  }

  /**
   * Starts a remote process. Its program runs when this returns and waits for the first batch: with that it
   * closes what it inherited, binds its life to this process's and hides from /proc.
   * @throws SyscallError when the kernel refuses: no descriptors (EMFILE), no processes (EAGAIN), no memory.
   * @throws InvalidArgumentError for descriptors that can't be given.
   */
  static spawn(options: RemoteOptions = {}): Remote {
    checkDescriptors(options.descriptors)
    reapOrphans()
    const { here, there } = socketPair()
    const descriptors = new Map(options.descriptors).set(channelDescriptor, there)
    try {
      const prelude = preludeOf(options, [0, 1, 2, ...descriptors.keys()])
      const pid = spawnProgram(descriptors)
      const { outlive, text } = options
      const channel = new Channel(here, { architecture: hostArchitecture(), outlive, prelude, text })
      return new Remote(pid, channel)
    } catch (error) {
      closeSync(here)
      throw error
    } finally {
      closeSync(there)
    }
  }

  /** See {@link Channel.run}. Batches may be handed over before earlier ones are answered. */
  run(calls: readonly Call[], options?: RunOptions): Promise<Results> {
    return this.channel.run(calls, options)
  }

  /** See {@link Channel.post}. */
  post(calls: readonly Call[], options?: PostOptions): void {
    this.channel.post(calls, options)
  }

  /** Whether it can still be given batches. */
  get isOpen(): boolean {
    return this.ending === undefined && this.channel.isOpen
  }

  /** See {@link Channel.attach}. */
  attach(descriptors: readonly number[], text: string): void {
    this.channel.attach(descriptors, text)
  }

  /** See {@link Channel.hold}. */
  hold(): void {
    this.channel.hold()
  }

  /** See {@link Channel.hangUp}. */
  hangUp(): void {
    this.channel.hangUp()
  }

  /**
   * Ends it (SIGKILL, also in the middle of a batch: what waits is rejected with RemoteExitError) and waits until
   * it is gone. Idempotent; after {@link release} it does nothing.
   * @throws TimeoutError when it is not gone after two seconds, for example in a frozen cgroup.
   */
  close(): Promise<void> {
    this.ending ??= this.end()
    return this.ending
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /**
   * Ends it as {@link close} does, but does not wait: it makes no further call, and is removed from the process
   * table when it is gone. Idempotent; after {@link release} it does nothing.
   */
  dismiss(): void {
    if (this.ending !== undefined) return
    perform(kill(this.pid, SIGKILL, { tolerate: 'ESRCH' }))
    this.ending = this.channel.close()
    reapSoon(this.pid)
  }

  /**
   * Lets go of a process that outlives this one: the socket is closed, batches that wait are rejected here
   * but made there. It is not waited for; when it ends before this process, a later spawn removes it from the
   * process table.
   */
  async release(): Promise<void> {
    if (this.ending === undefined) {
      orphan(this.pid)
      this.ending = this.channel.close()
    }
    await this.ending
  }

  private async end(): Promise<void> {
    // It is our child and not waited for yet: the pid can't be anybody else's.
    perform(kill(this.pid, SIGKILL, { tolerate: 'ESRCH' }))
    await this.channel.close()
    await reap(this.pid)
  }
}

function checkDescriptors(descriptors: Descriptors = new Map()): void {
  for (const [there, here] of descriptors) {
    for (const fd of [there, here]) {
      if (!Number.isInteger(fd) || fd < 0) throw new InvalidArgumentError(`${fd} is no descriptor`)
    }
    if (there === channelDescriptor) {
      throw new InvalidArgumentError(`descriptor ${channelDescriptor} of a remote process is the socket of its batches`)
    }
  }
}

const mostPreludes = 64
// Few differ; a batch that is made often is found again only behind the same array.
const preludes = new Map<string, readonly Call[]>()

function preludeOf(options: RemoteOptions, kept: readonly number[]): readonly Call[] {
  const key = `${options.outlive === true} ${options.dumpable === true} ${kept}`
  let prelude = preludes.get(key)
  if (prelude === undefined) {
    prelude = makePrelude(options, kept)
    if (preludes.size < mostPreludes) preludes.set(key, prelude)
  }
  return prelude
}

function makePrelude(options: RemoteOptions, kept: readonly number[]): readonly Call[] {
  const step = 'prepare the remote process'
  const calls: Call[] = []
  const ascending = [...new Set(kept)].sort((a, b) => a - b)
  ascending.forEach((fd, index) => {
    const next = ascending[index + 1] ?? 2 ** 32
    if (next > fd + 1) calls.push(closeRange(fd + 1, next - 1, 0, { step }))
  })
  // Since Linux 6.14 a program that is executed by its descriptor has the number of that for a name.
  calls.push(prctl(PR.SET_NAME, 'oci-ts', 0, { step }))
  if (options.outlive !== true) {
    calls.push(prctl(PR.SET_PDEATHSIG, SIGKILL, 0, { step }))
    // The parent may have died before that: then there is nobody at the other end.
    calls.push(checkPeer(channelDescriptor, { step }))
  }
  if (options.dumpable !== true) calls.push(prctl(PR.SET_DUMPABLE, 0, 0, { step }))
  return calls
}

let pairMemory: Memory | undefined

/** Two connected stream sockets, both close-on-exec. */
export function socketPair(): { readonly here: number; readonly there: number } {
  const door = libc()
  pairMemory ??= door.allocate(8)
  let { bytes } = pairMemory
  if (door.call('socketpair', AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairMemory.address) === -1) {
    // That tells no errno: what has failed is asked again.
    const pair = out(8)
    bytes = performFor(socketpair(SOCK_STREAM | SOCK_CLOEXEC, pair, { step: 'make a socket pair' })).bytes(pair)
  }
  return { here: bytes.readInt32LE(0), there: bytes.readInt32LE(4) }
}
