import type { Call } from '../call.ts'
import { AT_FDCWD, close, closeRange, dup3, O, openat } from '../calls/files.ts'
import { receiveDescriptors } from '../calls/sockets.ts'
import type { Channel } from './channel.ts'
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

/** A remote process that makes others. */
export interface Parent {
  readonly remote: Remote
  /** The socket by which these are given their batches, one after the other. Its other end is {@link childSocket} there. */
  readonly children: Channel
}

interface Spare {
  readonly remote: Remote
  /** See {@link Parent}. */
  readonly children: Channel | undefined
  readonly kind: Kind
  /** Who this process was when it was made. */
  readonly uid: number | undefined
  readonly gid: number | undefined
  readonly since: number
}

/** Number of the socket by which those that it makes take their batches. */
export const childSocket: number = channelDescriptor + 1

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
  return borrow(descriptors, text, false)?.remote
}

/** As {@link borrowSpare}, one that was given back with the socket of what it makes. */
export function borrowParent(descriptors: Descriptors, text: string): Parent | undefined {
  const spare = borrow(descriptors, text, true)
  return spare?.children === undefined ? undefined : { remote: spare.remote, children: spare.children }
}

function borrow(descriptors: Descriptors, text: string, isParent: boolean): Spare | undefined {
  reapOrphans()
  const kind = kindOf(descriptors, isParent)
  const [uid, gid] = [process.geteuid?.(), process.getegid?.()]
  for (;;) {
    const at = spares.findLastIndex((each) => each.kind === kind && each.uid === uid && each.gid === gid)
    const spare = spares[at]
    if (spare === undefined) return undefined
    spares.splice(at, 1)
    const { remote, children } = spare
    if (remote.isOpen && children?.welcome(text) !== false) {
      const handed = kind.numbers.map((number) => descriptors.get(number) as number)
      remote.attach(handed, text)
      return spare
    }
    dismiss(spare)
  }
}

function dismiss({ remote, children }: Pick<Spare, 'remote' | 'children'>): void {
  remote.dismiss()
  void children?.close()
}

/**
 * Gives back a remote process that outlives this one, whose batches are made or fail at once. It lets go of all that it
 * has open, and ends when nobody wants it soon. @param descriptors as it was given when it was made
 * @param children the other end of its {@link childSocket}, which it keeps then
 */
export function giveBack(remote: Remote, descriptors: Descriptors, children?: Channel): void {
  if (!remote.isOpen || spares.length >= most) {
    dismiss({ remote, children })
    return
  }
  const kind = kindOf(descriptors, children !== undefined)
  remote.post(kind.wait, { again: true, silent: true })
  const [uid, gid] = [process.geteuid?.(), process.getegid?.()]
  spares.push({ remote, children, kind, uid, gid, since: performance.now() })
  watch ??= setInterval(() => dismissSpares(patience), interval).unref()
}

/** Ends those that have waited for `time` milliseconds. */
export function dismissSpares(time: number): void {
  const limit = performance.now() - time
  while ((spares[0]?.since ?? Number.POSITIVE_INFINITY) <= limit) dismiss(spares.shift() as Spare)
  if (spares.length > 0) return
  clearInterval(watch)
  watch = undefined
}

/** By the numbers as they are given, and as they are handed over. */
const kinds = new Map<string, Kind>()

function kindOf(descriptors: Descriptors, isParent: boolean): Kind {
  const given = `${isParent} ${[...descriptors.keys()]}`
  const known = kinds.get(given)
  if (known !== undefined) return known
  const numbers = inOrder([...descriptors.keys()])
  const sorted = `${isParent} ${numbers}`
  const kept = isParent ? childSocket : channelDescriptor
  const kind = kinds.get(sorted) ?? { numbers, wait: awaitDescriptors(numbers, kept) }
  kinds.set(given, kind).set(sorted, kind)
  return kind
}

/** In the order in which they are handed over: those of the standard streams last. */
function inOrder(numbers: readonly number[]): readonly number[] {
  const isStandard = (number: number): boolean => number < channelDescriptor
  const ascending = [...numbers].sort((a, b) => a - b)
  return [...ascending.filter((number) => !isStandard(number)), ...ascending.filter(isStandard)]
}

/**
 * The batch with which a process waits for descriptors that are to have `numbers`, as {@link inOrder} has them.
 * @param kept the last of the sockets that it keeps
 */
function awaitDescriptors(numbers: readonly number[], kept: number): readonly Call[] {
  const step = 'wait for more to do'
  // They get the lowest free numbers, in their order: none but those of standard streams is higher than it is to be.
  const moves = numbers
    .map((to, index) => ({ from: kept + 1 + index, to }))
    .filter(({ from, to }) => from !== to)
    .reverse()
    .flatMap(({ from, to }) => [dup3(from, to, 0, { step }), close(from, { step })])
  const nothing = openat(AT_FDCWD, '/dev/null', O.RDWR, 0, { step })
  return [
    closeRange(0, channelDescriptor - 1, 0, { step }),
    closeRange(kept + 1, 0xffffffff, 0, { step }),
    nothing,
    dup3(nothing, 1, 0, { step }),
    dup3(nothing, 2, 0, { step }),
    receiveDescriptors(channelDescriptor, numbers.length, { step, wait: true }),
    ...moves,
  ]
}
