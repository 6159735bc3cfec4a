import { InvalidArgumentError, LimitError } from '../errors.ts'
import { quote } from '../internal/text.ts'
import type { Architecture } from './architecture.ts'
import { type Arg, blank, type Call, filled, type Out, type Place, type Struct, type Word } from './call.ts'
import { errnoNumber } from './errno.ts'
import { headerSize } from './remote/memory.ts'
import { syscallNumber } from './syscall-numbers.ts'

/**
 * Encodes calls as a message of the remote process:
 *
 *     header   32 bytes: length behind the header, number of calls, length of the reply, (calls not
 *              made, set by the process), 1 when it may outlive its parent, address of the first call, and 8
 *              bytes that the process puts in place of the length of an address when it sends the reply
 *     results  8 bytes a call
 *     out      memory that the kernel writes to
 *     calls    56 bytes each: number (4), flags (4), six arguments (8 each)
 *     data     strings, structs and bytes that arguments point at
 *
 * The reply is the start of the same memory: header, results and out.
 */

/** Bits 1 to 6 of a call's flags: that argument is the address of its value. */
const indirect = (argument: number): number => 1 << (argument + 1)
const childSocketShift = 8
const maxChildSocket = 0xff
const tolerateShift = 16
const tolerateAny = 0xffff
const callSize = 56
const replySizeOffset = 8
const maxArguments = 6

/** Where the parts of an encoded batch lie, relative to its start. */
export interface Layout {
  /** Bytes of the message. */
  readonly size: number
  /** Bytes of the reply. */
  readonly replySize: number
  /** Offset of what the kernel writes into each {@link Out}. */
  readonly outs: ReadonlyMap<Out, number>
}

/** Where a batch goes and how its process treats it. */
export interface Target {
  readonly architecture: Architecture
  /** Address at which the message lies when the calls are made. */
  readonly address: number
  /** Whether the process goes on when nobody reads its replies. */
  readonly outlive?: boolean
  /** What is put in place of each {@link blank}. Default: it stays. */
  readonly text?: string | undefined
}

/** Has a process send no reply to the message in `memory`: only one that may outlive its parent goes on then. */
export function silence(memory: Buffer): void {
  memory.writeUInt32LE(0, replySizeOffset)
}

/** A word of a message that is to become the address of a string. */
export interface Gap {
  /** Offset of the word. */
  readonly at: number
  /** The string, with one {@link blank} or more. */
  readonly string: string
}

/**
 * Writes the message for `calls` into `memory`.
 * @throws InvalidArgumentError for a NUL in a string, a number that is no integer of 64 bits, a value that is no
 * argument, too many of them, an unknown call or errno name, the result of a call that is not made before.
 * @throws LimitError when `memory` is too small.
 */
export function encode(calls: readonly Call[], memory: Buffer, target: Target): Layout {
  return new Encoder(calls, memory, target).encode()
}

/** As {@link encode}, but strings with a {@link blank} are left out; {@link fillGaps} puts them in. */
export function encodeWithGaps(
  calls: readonly Call[],
  memory: Buffer,
  target: Target,
): { readonly layout: Layout; readonly gaps: readonly Gap[] } {
  const gaps: Gap[] = []
  const layout = new Encoder(calls, memory, target, gaps).encode()
  return { layout, gaps }
}

/**
 * Completes a message of {@link encodeWithGaps}, which is the first `size` bytes of `memory`.
 * @returns its whole size. @throws as {@link encode} does.
 */
export function fillGaps(memory: Buffer, size: number, gaps: readonly Gap[], target: Target): number {
  return new Encoder([], memory, target).fill(size, gaps)
}

/**
 * Where the text stands in a message that {@link fillGaps} has completed: another one of the same length can be put there.
 * Undefined when not all of these strings are of ASCII.
 */
export function placesOfText(memory: Buffer, gaps: readonly Gap[], target: Target): readonly Place[] | undefined {
  const all: Place[] = []
  for (const { at, string } of gaps) {
    const places: Place[] = []
    if (!isAscii(filled(string, target.text ?? blank, places))) return undefined
    const start = Number(memory.readBigUInt64LE(at)) - target.address
    for (const place of places) all.push({ at: start + place.at, length: place.length })
  }
  return all
}

/** Whether a text has only printable characters of a byte each. */
export function isAscii(text: string): boolean {
  return /^[ -~]*$/.test(text)
}

/** How far back the result that a call uses is looked for before all calls are indexed. */
const nearby = 16

class Encoder {
  private readonly outs = new Map<Out, number>()
  /** The string that was placed last, and where: a call and the next one are often about the same path. */
  private lastString = ''
  private lastPlace = 0
  private readonly calls: readonly Call[]
  private readonly memory: Buffer
  /** The same memory: all that is written in words lies on 8 bytes, and both architectures are little-endian. */
  private readonly words: Int32Array
  private readonly target: Target
  /** Where strings are left out, when they are. */
  private readonly gaps: Gap[] | undefined
  /** Positions of the calls, when one uses a result from far back. */
  private indexes: Map<Call, number> | undefined
  private end = headerSize

  constructor(calls: readonly Call[], memory: Buffer, target: Target, gaps?: Gap[]) {
    this.calls = calls
    this.gaps = gaps
    this.memory = memory
    this.words = new Int32Array(memory.buffer, memory.byteOffset, memory.length >> 2)
    this.target = target
  }

  encode(): Layout {
    this.reserve(this.calls.length * 8)
    for (let i = 0; i < this.calls.length; i++) this.reserveOuts((this.calls[i] as Call).args)
    const replySize = this.end
    this.memory.fill(0, headerSize, replySize)

    const first = this.end
    this.reserve(this.calls.length * callSize)
    for (let i = 0; i < this.calls.length; i++) this.writeCall(i, first + i * callSize)

    const { memory } = this
    memory.writeUInt32LE(this.end - headerSize, 0)
    memory.writeUInt32LE(this.calls.length, 4)
    memory.writeUInt32LE(replySize, replySizeOffset)
    memory.writeInt32LE(0, 12)
    memory.writeUInt32LE(this.target.outlive === true ? 1 : 0, 16)
    memory.writeUInt32LE((this.target.address + first) >>> 0, 20)
    memory.writeBigUInt64LE(this.calls.find(({ replyMark }) => replyMark !== undefined)?.replyMark ?? 0n, 24)
    return { size: this.end, replySize, outs: this.outs }
  }

  fill(size: number, gaps: readonly Gap[]): number {
    this.end = size
    for (const { at, string } of gaps) this.writeAddress(at, this.placeString(string, 'a batch'))
    this.memory.writeUInt32LE(this.end - headerSize, 0)
    return this.end
  }

  private reserve(size: number): number {
    const at = this.end
    // Compared before it is rounded: that works on 32 bits.
    if (size > this.memory.length - at) throw this.tooLarge()
    // Every part starts on 8 bytes, so that the kernel's structs are aligned in it.
    this.end = (at + size + 7) & ~7
    if (this.end > this.memory.length) throw this.tooLarge()
    return at
  }

  private tooLarge(): LimitError {
    return new LimitError('a batch of system calls', this.memory.length, 'bytes')
  }

  private reserveOuts(args: readonly Arg[]): void {
    for (let i = 0; i < args.length; i++) {
      const arg = args[i] as Arg
      if (typeof arg !== 'object' || arg === null || arg instanceof Uint8Array) continue
      if (arg.kind === 'struct') this.reserveOuts(arg.words)
      else if (arg.kind === 'out' && !this.outs.has(arg)) this.reserveOut(arg)
    }
  }

  private reserveOut(out: Out): void {
    if (!Number.isSafeInteger(out.size) || out.size < 0) {
      throw new InvalidArgumentError(`${out.size} is no size of memory for the kernel to write to`)
    }
    this.outs.set(out, this.reserve(out.size))
  }

  private writeCall(index: number, at: number): void {
    const call = this.calls[index] as Call
    if (call.args.length > maxArguments) {
      throw new InvalidArgumentError(`${call.name} has ${call.args.length} arguments; a system call has at most six`)
    }
    let flags = (childSocket(call) << childSocketShift) | (toleratedErrno(call) << tolerateShift)
    for (let i = 0; i < maxArguments; i++) {
      const arg = i < call.args.length ? (call.args[i] as Arg) : 0
      if (typeof arg === 'number') this.writeNumber(at + 8 + i * 8, arg, call)
      else if (isCall(arg)) {
        flags |= indirect(i)
        this.writeAddress(at + 8 + i * 8, this.resultOf(arg, index))
      } else this.writeWord(at + 8 + i * 8, arg, call)
    }
    this.words[at >> 2] = syscallNumber(call.name, this.target.architecture)
    this.words[(at >> 2) + 1] = flags
  }

  private writeNumber(at: number, value: number, call: Call): void {
    // The lower half is what is left of it in 32 bits.
    this.words[at >> 2] = value
    if ((value | 0) === value) {
      this.words[(at >> 2) + 1] = value >> 31
      return
    }
    if (!Number.isSafeInteger(value)) throw outOfRange(call, value)
    this.words[(at >> 2) + 1] = Math.floor(value / 2 ** 32)
  }

  private writeAddress(at: number, offset: number): void {
    const address = this.target.address + offset
    this.words[at >> 2] = address
    this.words[(at >> 2) + 1] = Math.floor(address / 2 ** 32)
  }

  private writeWord(at: number, arg: Word, call: Call): void {
    if (typeof arg === 'number') this.writeNumber(at, arg, call)
    else if (this.gaps !== undefined && typeof arg === 'string' && arg.includes(blank)) {
      this.gaps.push({ at, string: arg })
    } else if (typeof arg !== 'bigint') this.writeAddress(at, this.place(arg, call))
    else {
      if (arg < -(2n ** 63n) || arg >= 2n ** 64n) throw outOfRange(call, arg)
      this.memory.writeBigUInt64LE(BigInt.asUintN(64, arg), at)
    }
  }

  /** Offset of what an argument points at; writes it there when it is not there yet. */
  private place(arg: Exclude<Word, number | bigint>, call: Call): number {
    if (typeof arg === 'string') return this.placeString(arg, call.name)
    if (arg instanceof Uint8Array) return this.placeBytes(arg)
    if (!isPlaceable(arg)) throw new InvalidArgumentError(`${call.name}: an argument is ${kindOf(arg)}`)
    return arg.kind === 'out' ? (this.outs.get(arg) as number) : this.placeStruct(arg, call)
  }

  private placeString(string: string, where: string): number {
    if (string === this.lastString && this.lastPlace > 0) return this.lastPlace
    const text = this.target.text === undefined ? string : filled(string, this.target.text)
    this.lastString = string
    this.lastPlace = this.placeAscii(text) ?? this.placeText(text, where)
    return this.lastPlace
  }

  /** Byte by byte, which is the quickest for most; undefined for what has other characters than ASCII. */
  private placeAscii(text: string): number | undefined {
    const { memory, end } = this
    const at = this.reserve(text.length + 1)
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i)
      if (code === 0 || code > 0x7f) {
        this.end = end
        return undefined
      }
      memory[at + i] = code
    }
    memory[at + text.length] = 0
    return at
  }

  private placeText(text: string, where: string): number {
    // The kernel would silently cut the string there.
    if (text.includes('\0')) {
      throw new InvalidArgumentError(`${where}: NUL byte in ${quote(text)}`, { subject: text })
    }
    const size = Buffer.byteLength(text)
    const at = this.reserve(size + 1)
    this.memory.write(text, at)
    this.memory[at + size] = 0
    return at
  }

  private placeBytes(bytes: Uint8Array): number {
    const at = this.reserve(bytes.length)
    this.memory.set(bytes, at)
    return at
  }

  private placeStruct({ words }: Struct, call: Call): number {
    const at = this.reserve(words.length * 8)
    for (let i = 0; i < words.length; i++) {
      const word = words[i] as Word
      // Its result would not be followed there: the process looks only at the arguments themselves.
      if (isCall(word)) throw new InvalidArgumentError(`${call.name}: a struct can't hold the result of a call`)
      this.writeWord(at + i * 8, word, call)
    }
    return at
  }

  private resultOf(earlier: Call, user: number): number {
    let index = user - 1
    while (index >= 0 && index >= user - nearby && this.calls[index] !== earlier) index--
    if (this.calls[index] !== earlier) {
      this.indexes ??= new Map(this.calls.map((each, position) => [each, position]))
      index = this.indexes.get(earlier) ?? user
    }
    if (index >= user) {
      const { name } = this.calls[user] as Call
      throw new InvalidArgumentError(`${name} uses the result of ${earlier.name}, which is not made before it`)
    }
    return headerSize + index * 8
  }
}

function isCall(arg: Arg): arg is Call {
  return typeof arg === 'object' && arg !== null && 'kind' in arg && arg.kind === 'call'
}

/** Whether a value that is no number, string or bytes is an argument at all; callers without types may pass anything. */
function isPlaceable(arg: unknown): boolean {
  if (typeof arg !== 'object' || arg === null || !('kind' in arg)) return false
  return arg.kind === 'out' || arg.kind === 'struct'
}

function kindOf(arg: unknown): string {
  return arg === null || arg === undefined ? String(arg) : `of type ${typeof arg}`
}

function childSocket(call: Call): number {
  const socket = call.childSocket
  if (socket === undefined) return 0
  if (Number.isInteger(socket) && socket > 0 && socket <= maxChildSocket) return socket
  throw new InvalidArgumentError(`${call.name}: the socket of a child has a number from 1 to ${maxChildSocket}`)
}

function toleratedErrno(call: Call): number {
  if (call.tolerate === undefined) return 0
  if (call.tolerate === 'any') return tolerateAny
  const errno = errnoNumber(call.tolerate)
  if (errno === undefined) throw new InvalidArgumentError(`${call.name}: no errno is named ${call.tolerate}`)
  return errno
}

function outOfRange(call: Call, value: number | bigint): InvalidArgumentError {
  return new InvalidArgumentError(`${call.name}: ${value} is no integer that fits the argument`)
}
