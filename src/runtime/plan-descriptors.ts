import { InvalidArgumentError } from '../errors.ts'
import type { Call } from '../linux/call.ts'
import { closeRange, dup3 } from '../linux/calls/files.ts'
import { descriptor } from './descriptors.ts'
import type { PlanOptions } from './plan.ts'

const lastDescriptor = 0xffffffff
/** Most descriptors that fit below the numbers that the runtime's own have. */
const maxPreserved = descriptor.initAbove - 10
const step = "close what is not the container's"

/** Number of the socket of the first process. @throws InvalidArgumentError for descriptors that can not be preserved. */
export function channelOf(options: PlanOptions): number {
  const { preserveFds = 0 } = options
  if (!Number.isInteger(preserveFds) || preserveFds < 0 || preserveFds > maxPreserved) {
    throw new InvalidArgumentError(`${preserveFds} descriptors can't be preserved: at most ${maxPreserved}`)
  }
  return preserveFds > 0 ? descriptor.initAbove : descriptor.init
}

/** Behind the sockets that the first process takes batches on. */
export function listenerSocket(options: PlanOptions): number | undefined {
  if (options.filter?.notify !== true) return undefined
  return lastSocket(options) + 1
}

/** Behind the socket of its batches the first process may have the one that it waits at, or gets descriptors by. */
export function lastSocket(options: PlanOptions): number {
  return channelOf(options) + (options.handOver === true || options.parked === true ? 1 : 0)
}

/** Where the first process has one socket, and the program gets no descriptors. */
const closeOthers = closeRange(descriptor.init + 1, lastDescriptor, 0, { step })

/** The calls of {@link closeCalls} for a first process whose start a pipe tells of: see {@link aloneBatch}. */
export function keepingPipe(calls: readonly Call[]): readonly Call[] {
  const { beginning, init } = descriptor
  const instead = [
    closeRange(init + 1, beginning - 1, 0, { step }),
    closeRange(beginning + 1, lastDescriptor, 0, { step }),
  ]
  return calls.flatMap((call) => (call === closeOthers ? instead : [call]))
}

/** Closes what is open besides the standard streams and the sockets, and puts in place what the program gets. */
export function closeCalls(options: PlanOptions): readonly Call[] {
  const first = channelOf(options)
  const last = listenerSocket(options) ?? lastSocket(options)
  const { preserveFds = 0 } = options
  if (preserveFds === 0 && last === descriptor.init) return [closeOthers]
  if (preserveFds === 0) return [closeRange(last + 1, lastDescriptor, 0, { step })]
  const moved = Array.from({ length: preserveFds }, (_, index) =>
    dup3(descriptor.preserved + index, 3 + index, 0, { step: 'hand on the descriptors that are to be preserved' }),
  )
  return [
    closeRange(3, first - 1, 0, { step }),
    closeRange(last + 1, descriptor.preserved - 1, 0, { step }),
    ...moved,
    closeRange(descriptor.preserved, lastDescriptor, 0, { step }),
  ]
}
