import { InvalidArgumentError, RemoteExitError } from '../../errors.ts'
import { type Call, type CallOptions, call, filled } from '../call.ts'
import type { Layout } from '../encode.ts'
import { syscallError } from '../errno.ts'
import { interrupted } from '../resume.ts'
import type { Results } from '../runner.ts'
import { headerSize } from './memory.ts'

/** A batch that was handed over and is not answered. */
export interface Batch {
  readonly calls: readonly Call[]
  readonly layout: Pick<Layout, 'replySize' | 'outs'>
  /** Whether its answer keeps this process alive. */
  holds: boolean
  /** Undefined when nobody asks for the answer. */
  readonly resolve?: (results: Results) => void
  readonly reject?: (error: unknown) => void
  /** What is done instead of `reject` when the other end is closed. */
  ended?: (() => void) | undefined
  /** See `notice` of RunOptions, until it has come. */
  notice?: (() => void) | undefined
}

/** Bytes of the answer to a batch of `calls` calls that write to no memory. */
export function replySize(calls: number): number {
  return headerSize + calls * 8
}

/** Where a message has the number of calls that were not made. */
const notMadeOffset = 12

/** A message that is told from an answer by its number of calls not made. */
export const noticeSize = 16
const noticeMark = -2

/**
 * Tells whoever handed over the batch, by way of the socket `fd` of its process, that this one is come to: before the
 * answer, once a batch. It fails, which is tolerated, when nobody is there.
 */
export function sendNotice(fd: number, options?: CallOptions): Call {
  const MSG_NOSIGNAL = 0x4000
  const message = Buffer.alloc(noticeSize)
  message.writeInt32LE(noticeMark, notMadeOffset)
  return call('sendto', [fd, message, noticeSize, MSG_NOSIGNAL, 0, 0], { tolerate: 'any', ...options })
}

/** Whether a message of {@link noticeSize} bytes is a notice. */
export function isNotice(message: Buffer): boolean {
  return message.readInt32LE(notMadeOffset) === noticeMark
}

/** Largest errno; results from -4095 to -1 are failures. */
const maxErrno = 4095

/** Hands the answer over. @returns false when it is none: then the other end is no longer our program. */
export function settle(batch: Batch, reply: Buffer, text: string | undefined): boolean {
  const { calls, layout } = batch
  const notMade = reply.readInt32LE(notMadeOffset)
  if (notMade !== -1) {
    const index = calls.length - 1 - notMade
    const failed = calls[index]
    const errno = failed === undefined ? 0 : -resultAt(reply, index)
    if (failed === undefined || errno <= 0 || errno > maxErrno) {
      batch.reject?.(new RemoteExitError('the remote process gave an answer that makes no sense'))
      return false
    }
    if (batch.reject === undefined) return true
    const results = resultsOf(calls, layout, reply)
    const error = syscallError(text === undefined ? failed : named(failed, text), errno)
    batch.reject(interrupted(error, { calls, position: index, results }))
    return true
  }
  batch.resolve?.(resultsOf(calls, layout, reply))
  return true
}

/** A call as errors tell of it: with what stood for its blanks. */
function named(call: Call, text: string): Call {
  const { path, step } = call
  return {
    ...call,
    ...(path === undefined ? {} : { path: filled(path, text) }),
    ...(step === undefined ? {} : { step: filled(step, text) }),
  }
}

function resultsOf(calls: readonly Call[], layout: Batch['layout'], reply: Buffer): Results {
  // Whoever asks for several results mostly does so in their order.
  let next = 0
  return {
    value(call) {
      let index = calls.indexOf(call, next)
      if (index === -1) index = calls.indexOf(call)
      if (index === -1) throw new InvalidArgumentError(`${call.name} is not part of the batch`)
      next = index + 1
      return resultAt(reply, index)
    },
    bytes(out) {
      const at = layout.outs.get(out)
      if (at === undefined) throw new InvalidArgumentError('no call of the batch writes to that memory')
      return reply.subarray(at, at + out.size)
    },
  }
}

function resultAt(reply: Buffer, index: number): number {
  return Number(reply.readBigInt64LE(headerSize + index * 8))
}
