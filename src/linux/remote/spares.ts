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

/** What one takes over that was made with the same numbers of descriptors. */
interface Kind {
  /** Numbers that it gives to the descriptors that it is handed, in the order in which it is. */
  readonly numbers: readonly number[]
  /** The batch with which it waits for them. */
  readonly wait: readonly Call[]
}

interface Spare {
  readonly remote: Remote
  readonly kind: Kind
  /** Who this process was when it was made. */
  readonly uid: number | undefined
  readonly gid: number | undefined
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
  const kind = kindOf(descriptors)
  const [uid, gid] = [process.geteuid?.(), process.getegid?.()]
  for (;;) {
    const at = spares.findLastIndex((each) => each.kind === kind && each.uid === uid && each.gid === gid)
    const spare = spares[at]
    if (spare === undefined) return undefined
    spares.splice(at, 1)
    const { remote } = spare
    if (remote.isOpen) {
      const handed = kind.numbers.map((number) => descriptors.get(number) as number)
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
  const kind = kindOf(descriptors)
  remote.post(kind.wait, { again: true, silent: true })
  spares.push({ remote, kind, uid: process.geteuid?.(), gid: process.getegid?.(), since: performance.now() })
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

/** By the numbers as they are given, and as they are handed over. */
const kinds = new Map<string, Kind>()

function kindOf(descriptors: Descriptors): Kind {
  const given = [...descriptors.keys()].join()
  const known = kinds.get(given)
  if (known !== undefined) return known
  const numbers = inOrder([...descriptors.keys()])
  const kind = kinds.get(numbers.join()) ?? { numbers, wait: awaitDescriptors(numbers) }
  kinds.set(given, kind).set(numbers.join(), kind)
  return kind
}

/** In the order in which they are handed over: those of the standard streams last. */
function inOrder(numbers: readonly number[]): readonly number[] {
  const isStandard = (number: number): boolean => number < channelDescriptor
  const ascending = [...numbers].sort((a, b) => a - b)
  return [...ascending.filter((number) => !isStandard(number)), ...ascending.filter(isStandard)]
}

/** The batch with which a process waits for descriptors that are to have `numbers`, as {@link inOrder} has them. */
function awaitDescriptors(numbers: readonly number[]): readonly Call[] {
  const step = 'wait for more to do'
  // They get the lowest free numbers, in their order: none but those of standard streams is higher than it is to be.
  const moves = numbers
    .map((to, index) => ({ from: channelDescriptor + 1 + index, to }))
    .filter(({ from, to }) => from !== to)
    .reverse()
    .flatMap(({ from, to }) => [dup3(from, to, 0, { step }), close(from, { step })])
  const nothing = openat(AT_FDCWD, '/dev/null', O.RDWR, 0, { step })
  return [
    closeRange(0, channelDescriptor - 1, 0, { step }),
    closeRange(channelDescriptor + 1, 0xffffffff, 0, { step }),
    nothing,
    dup3(nothing, 1, 0, { step }),
    dup3(nothing, 2, 0, { step }),
    receiveDescriptors(channelDescriptor, numbers.length, { step, wait: true }),
    ...moves,
  ]
}
