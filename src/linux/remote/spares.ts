import type { Call } from '../call.ts'
import { AT_FDCWD, close, closeRange, dup3, O, openat } from '../calls/files.ts'
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
/** Milliseconds that one waits at least. */
const patience = 1000
/** Milliseconds from one look for those that have waited long enough to the next. */
const interval = 250

const spares: Spare[] = []
let watch: NodeJS.Timeout | undefined

/**
 * Takes a remote process that was given back. With its first batch it gets `descriptors`, by their numbers there, which
 * have to be open until then; those of 0, 1 and 2 that are not given are open on /dev/null.
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
    const { remote } = spare
    if (remote.isOpen) {
      const handed = numbers.map((number) => descriptors.get(number) as number)
      remote.attach(handed, text)
      return remote
    }
    remote.dismiss()
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
  watch ??= setInterval(() => dismissSpares(patience), interval).unref()
}

/** Ends those that have waited for `time` milliseconds. */
export function dismissSpares(time: number): void {
  const limit = performance.now() - time
  while ((spares[0]?.since ?? Number.POSITIVE_INFINITY) <= limit) spares.shift()?.remote.dismiss()
  if (spares.length > 0) return
  clearInterval(watch)
  watch = undefined
}

/** In the order in which they are handed over: those of the standard streams last. */
function numbersOf(descriptors: Descriptors): readonly number[] {
  const isStandard = (number: number): boolean => number < channelDescriptor
  const ascending = [...descriptors.keys()].sort((a, b) => a - b)
  return [...ascending.filter((number) => !isStandard(number)), ...ascending.filter(isStandard)]
}

function ownerNow(): string {
  return `${process.geteuid?.()} ${process.getegid?.()}`
}

const waits = new Map<string, readonly Call[]>()

/** The batch with which a process waits for descriptors that are to have `numbers`, as {@link numbersOf} orders them. */
function awaitDescriptors(numbers: readonly number[]): readonly Call[] {
  const key = `${numbers}`
  const known = waits.get(key)
  if (known !== undefined) return known
  const step = 'wait for more to do'
  // They get the lowest free numbers, in their order: none but those of standard streams is higher than it is to be.
  const moves = numbers
    .map((to, index) => ({ from: channelDescriptor + 1 + index, to }))
    .filter(({ from, to }) => from !== to)
    .reverse()
    .flatMap(({ from, to }) => [dup3(from, to, 0, { step }), close(from, { step })])
  const nothing = openat(AT_FDCWD, '/dev/null', O.RDWR, 0, { step })
  const calls = [
    closeRange(0, channelDescriptor - 1, 0, { step }),
    closeRange(channelDescriptor + 1, 0xffffffff, 0, { step }),
    nothing,
    dup3(nothing, 1, 0, { step }),
    dup3(nothing, 2, 0, { step }),
    receiveDescriptors(channelDescriptor, numbers.length, { step, wait: true }),
    ...moves,
  ]
  waits.set(key, calls)
  return calls
}
