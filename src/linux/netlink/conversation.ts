import { LimitError } from '../../errors.ts'
import { type Call, type CallOptions, call, out } from '../call.ts'
import { close } from '../calls/files.ts'
import { SOCK_CLOEXEC, socket } from '../calls/processes.ts'
import { syscallError } from '../errno.ts'
import type { CallRunner } from '../runner.ts'
import { type NetlinkMessage, parseAnswer } from './message.ts'

const AF_NETLINK = 16
const SOCK_RAW = 3
const NETLINK_ROUTE = 0
const MSG_DONTWAIT = 0x40
/** One answer of the kernel is at most 32 KiB (net/netlink/af_netlink.c). */
const answerSize = 32_768
/** Parts of an answer that are taken: each holds about twenty devices. */
const maxParts = 16

/**
 * Sends a request to the kernel in the network namespace of whoever makes the calls, and reads the whole answer. The
 * kernel has it ready when the request was sent.
 * @throws SyscallError when it refuses. @throws LimitError for an answer that does not end.
 */
export async function converse(
  runner: CallRunner,
  request: Buffer,
  why: CallOptions,
): Promise<readonly NetlinkMessage[]> {
  const opened = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE, why)
  const sent = call('sendto', [opened, request, request.length, 0, 0, 0], why)
  const parts = Array.from({ length: maxParts }, () => out(answerSize))
  const reads = parts.map((part) =>
    call('recvfrom', [opened, part, part.size, MSG_DONTWAIT, 0, 0], { ...why, tolerate: 'EAGAIN' }),
  )
  const results = await runner.run([opened, sent, ...reads, close(opened)])
  const messages: NetlinkMessage[] = []
  for (const [index, part] of parts.entries()) {
    const size = results.value(reads[index] as Call)
    if (size <= 0) return messages
    const answer = parseAnswer(results.bytes(part).subarray(0, size))
    if (answer.errno !== 0) throw syscallError(sent, answer.errno)
    messages.push(...answer.messages)
    if (answer.done) return messages
  }
  throw new LimitError('an answer of netlink', maxParts, 'parts')
}
