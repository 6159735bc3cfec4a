import { closeSync } from 'node:fs'
import { RemoteExitError, TimeoutError } from '../../errors.ts'
import {
  descriptorOut,
  peekMessage,
  receivedDescriptor,
  receiveMessage,
  sendDescriptor,
} from '../../linux/calls/descriptor-messages.ts'
import { close } from '../../linux/calls/files.ts'
import { addDescriptor } from '../../linux/calls/seccomp-notify.ts'
import { perform } from '../../linux/local.ts'
import { Remote, socketPair } from '../../linux/remote/remote.ts'

/** The socket that the listener lies in, and that of descriptors that are handed on, in its processes. */
const numbers = { listener: 10, descriptors: 11 } as const

/** How long a batch may take, in milliseconds. Reading a stranger's memory can take as long as the stranger likes. */
const patience = 2000

/** A process with the listener of a filter. */
interface Helper {
  readonly remote: Remote
  /** Number of the listener there. */
  readonly listener: number
  /** This end of the socket by which it is given descriptors. */
  readonly descriptors: number
}

/**
 * Makes calls on the listener of a filter, in a process of its own: the memory of a caller may be such that reading it
 * never ends, and then that process is given up. One batch at a time.
 */
export class Answerer {
  private readonly socket: number
  private helper: Promise<Helper> | undefined
  private last: Promise<unknown> = Promise.resolve()
  private closed = false

  /** @param socket in which the listener lies, and stays; whoever made it closes it after this. */
  constructor(socket: number) {
    this.socket = socket
  }

  /**
   * Lets `work` make calls there, when nobody else does.
   * @throws TimeoutError when it takes too long. @throws RemoteExitError when this is closed.
   */
  use<T>(work: (remote: Remote, listener: number) => Promise<T>): Promise<T> {
    return this.exclusively(({ remote, listener }) => work(remote, listener))
  }

  /** Answers a call with a copy of a descriptor of this process. @returns its number there, or the negative errno. */
  inject(id: bigint, fd: number, closeOnExec: boolean): Promise<number> {
    return this.exclusively(async ({ remote, listener, descriptors }) => {
      perform(sendDescriptor(descriptors, fd, '.', { step: 'hand a descriptor on' }))
      const control = descriptorOut()
      const received = await remote.run([receiveMessage(numbers.descriptors, control)], { background: true })
      const there = receivedDescriptor(received.bytes(control)) as number
      const added = addDescriptor(listener, id, there, closeOnExec, { tolerate: 'any' })
      const results = await remote.run([added, close(there)], { background: true })
      return results.value(added)
    })
  }

  /** Ends it. What is under way is rejected. Idempotent. */
  async close(): Promise<void> {
    this.closed = true
    await this.giveUp()
  }

  private exclusively<T>(work: (helper: Helper) => Promise<T>): Promise<T> {
    const done = this.last.then(async () => {
      if (this.closed) throw new RemoteExitError('the container has ended')
      this.helper ??= this.start()
      return this.inTime(this.helper.then(work))
    })
    this.last = done.catch(() => {})
    return done
  }

  private async inTime<T>(promise: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new TimeoutError('a call on a seccomp listener', patience)), patience)
    })
    try {
      return await Promise.race([promise, late])
    } catch (error) {
      promise.catch(() => {})
      if (error instanceof TimeoutError || error instanceof RemoteExitError) await this.giveUp()
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  private async start(): Promise<Helper> {
    const pair = socketPair()
    let remote: Remote
    try {
      remote = Remote.spawn({
        descriptors: new Map([
          [numbers.listener, this.socket],
          [numbers.descriptors, pair.there],
        ]),
      })
    } catch (error) {
      closeSync(pair.here)
      throw error
    } finally {
      closeSync(pair.there)
    }
    try {
      const listener = await peekListener(remote, numbers.listener)
      if (listener === undefined) throw new RemoteExitError('the filter was not loaded')
      return { remote, listener, descriptors: pair.here }
    } catch (error) {
      closeSync(pair.here)
      await remote.close().catch(() => {})
      throw error
    }
  }

  private async giveUp(): Promise<void> {
    const { helper } = this
    this.helper = undefined
    const made = await helper?.catch(() => undefined)
    if (made === undefined) return
    closeSync(made.descriptors)
    await made.remote.close().catch(() => {})
  }
}

/** Waits for the listener to be in the socket. @returns its number there; undefined when it will never be. */
export async function peekListener(remote: Remote, socket: number): Promise<number | undefined> {
  const control = descriptorOut()
  const results = await remote.run([peekMessage(socket, control, { step: 'get the seccomp listener' })], {
    background: true,
  })
  return receivedDescriptor(results.bytes(control))
}
