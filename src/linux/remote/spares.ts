import { closeSync, openSync } from 'node:fs'
import type { Call } from '../call.ts'
import { close, closeRange, dup3 } from '../calls/files.ts'
import { receiveDescriptors } from '../calls/sockets.ts'
import { reapOrphans } from './reap.ts'
import { channelDescriptor, type Remote } from './remote.ts'
import type { Descriptors } from './spawn.ts'

/**
 * Remote processes that are done and wait a moment for more to do: starting one costs more than all that most are for.
 * Only such as are as they were made: with the namespaces, the root and the ids of this process.
 */

interface Spare {
  readonly remote: Remote
  /** Numbers that it gives to the descriptors that it is handed. */
  readonly numbers: readonly number[]
  /** Who this process was when it was made. */
  readonly owner: string
  readonly since: number
}

/** Most that wait. */
const most = 32
/** Milliseconds that one waits at least; at most three times that. */
const patience = 100

const spares: Spare[] = []
let watch: NodeJS.Timeout | undefined

/**
 * Takes a remote process that was given back. It has `descriptors`, by their numbers there, and those of 0, 1 and 2 that
 * are not given open on /dev/null.
 * @param text see `text` of ChannelOptions. @returns undefined when there is none.
 */
export function borrowSpare(descriptors: Descriptors, text: string): Remote | undefined {
  reapOrphans()
  const numbers = numbersOf(descriptors)
  const owner = ownerNow()
  for (;;) {
    const at = spares.findLastIndex((each) => each.owner === owner && `${each.numbers}` === `${numbers}`)
    const spare = spares[at]
    if (spare === undefined) return undefined
    spares.splice(at, 1)
    if (handOver(spare, descriptors, text)) return spare.remote
    spare.remote.dismiss()
  }
}

function handOver({ remote, numbers }: Spare, descriptors: Descriptors, text: string): boolean {
  const isWhole = descriptors.has(0) && descriptors.has(1) && descriptors.has(2)
  const nothing = isWhole ? undefined : openSync('/dev/null', 'r+')
  try {
    return remote.handOver(
      numbers.map((number) => descriptors.get(number) ?? (nothing as number)),
      text,
    )
  } finally {
    if (nothing !== undefined) closeSync(nothing)
  }
}

/**
 * Gives back a remote process that outlives this one, whose batches are made or fail at once. It lets go of all that it
 * has open, and ends when nobody wants it soon. @param descriptors as it was given when it was made
 */
export function giveBack(remote: Remote, descriptors: Descriptors): void {
  if (!remote.isOpen || spares.length >= most) {
    remote.dismiss()
    return
  }
  const numbers = numbersOf(descriptors)
  remote.post(awaitDescriptors(numbers), true)
  spares.push({ remote, numbers, owner: ownerNow(), since: performance.now() })
  watch ??= setInterval(dismissOld, 2 * patience).unref()
}

function dismissOld(): void {
  const limit = performance.now() - patience
  while ((spares[0]?.since ?? Number.POSITIVE_INFINITY) < limit) spares.shift()?.remote.dismiss()
  if (spares.length > 0) return
  clearInterval(watch)
  watch = undefined
}

function numbersOf(descriptors: Descriptors): readonly number[] {
  return [...new Set([0, 1, 2, ...descriptors.keys()])].sort((a, b) => a - b)
}

function ownerNow(): string {
  return `${process.geteuid?.()} ${process.getegid?.()}`
}

const waits = new Map<string, readonly Call[]>()

/** The batch with which a process waits for descriptors that are to have `numbers`, which ascend. */
function awaitDescriptors(numbers: readonly number[]): readonly Call[] {
  const key = `${numbers}`
  const known = waits.get(key)
  if (known !== undefined) return known
  const step = 'wait for more to do'
  // They get the lowest free numbers, in their order: none of them is higher than it is to be.
  const lowest = numbers.map((_, index) => (index < channelDescriptor ? index : index + 1))
  const moves = numbers
    .map((to, index) => ({ from: lowest[index] as number, to }))
    .filter(({ from, to }) => from !== to)
    .reverse()
    .flatMap(({ from, to }) => [dup3(from, to, 0, { step }), close(from, { step })])
  const calls = [
    closeRange(0, channelDescriptor - 1, 0, { step }),
    closeRange(channelDescriptor + 1, 0xffffffff, 0, { step }),
    receiveDescriptors(channelDescriptor, numbers.length, { step, wait: true }),
    ...moves,
  ]
  waits.set(key, calls)
  return calls
}
