import { closeSync } from 'node:fs'
import { hostArchitecture } from '../linux/architecture.ts'
import type { Call } from '../linux/call.ts'
import { Channel } from '../linux/remote/channel.ts'
import { Remote, socketPair } from '../linux/remote/remote.ts'
import { borrowParent, borrowSpare, type Parent } from '../linux/remote/spares.ts'
import type { Descriptors } from '../linux/remote/spawn.ts'
import type { Results } from '../linux/runner.ts'

/** What a monitor is wanted for. */
export interface MonitorOptions {
  /** Number that the socket of the first process has there. */
  readonly channel: number
  /** The id of the container. */
  readonly text: string
  /** Whether the first process goes on without this one. */
  readonly outlive: boolean
  /** See RemoteOptions. */
  readonly dumpable: boolean
  /** Whether it can be another container's before, and afterwards. */
  readonly isLent: boolean
  /** Whether it keeps the socket of the first process: see {@link aloneBatch}. */
  readonly isAlone: boolean
}

/** A monitor that has not been told yet what to do. */
export interface MonitorProcess extends Parent {
  /** What it is given back with, when it is lent: see {@link giveBack}. */
  readonly descriptors: Descriptors
  /** The end of a new socket that is handed to it with its first batch, and to be closed here after that. */
  readonly handed: number | undefined
}

/**
 * Gets a monitor, one that is there or a new one, and the socket of the first process that it is to make.
 * @param descriptors that it is to have besides that socket
 */
export function monitorProcess(descriptors: Descriptors, options: MonitorOptions): MonitorProcess {
  const { channel, text, outlive, dumpable, isLent, isAlone } = options
  const parent = isLent && isAlone ? borrowParent(descriptors, text) : undefined
  if (parent !== undefined) return { ...parent, descriptors, handed: undefined }
  const { here, there } = socketPair()
  const children = new Channel(here, { architecture: hostArchitecture(), outlive, text })
  const all = new Map(descriptors).set(channel, there)
  try {
    const spare = isLent ? borrowSpare(all, text) : undefined
    // It outlives this process always: by as long as it takes to end the container and to clean up.
    const remote = spare ?? Remote.spawn({ descriptors: all, outlive: true, dumpable, text })
    return { remote, children, descriptors: isAlone ? descriptors : all, handed: there }
  } catch (error) {
    void children.close()
    closeSync(there)
    throw error
  }
}

/**
 * Hands over the batch of a monitor that is alone: see {@link aloneBatch}.
 * @param isLent whether the socket of the first process may be another one's afterwards
 */
export function runAlone({ remote, children }: Parent, batch: readonly Call[], isLent: boolean): Promise<Results> {
  const notice = (): void => (isLent ? children.leave() : void children.close())
  const done = remote.run(batch, { again: true, notice })
  // A monitor that has failed keeps the other end of the socket open, and gives no notice.
  done.catch(() => children.close())
  return done
}
