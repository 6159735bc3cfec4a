import { InvalidArgumentError } from '../errors.ts'
import type { Call, Out } from './call.ts'
import { encode } from './encode.ts'
import { errnoNumber, syscallError } from './errno.ts'
import { libc, type Memory } from './libc.ts'
import { syscallNumber } from './syscall-numbers.ts'

/** Bytes of memory for the arguments of one local call. */
const arenaSize = 1 << 20

let arena: Memory | undefined

/**
 * Makes one call in this process, at once. Not for calls that block, nor for calls that change
 * what Node's threads share (namespaces, credentials, working directory).
 * @returns its result; the negative errno when that errno is tolerated.
 * @throws SyscallError when the kernel refuses. @throws InvalidArgumentError for arguments it can't take.
 */
export function perform(call: Call): number {
  // Numbers need no memory, and no encoding.
  if (call.childSocket !== undefined || !call.args.every(Number.isSafeInteger)) return performFor(call).value
  const door = libc()
  if (call.name === 'flock') {
    const done = door.call('flock', ...(call.args as readonly number[]))
    // That tells no errno: what has failed is asked again.
    if (done !== -1) return done
  }
  const args = call.args.map((arg) => BigInt(arg as number))
  return checked(call, door.syscall(syscallNumber(call.name, door.architecture), ...args))
}

/** {@link perform} for a call that writes to memory; `bytes` gives what it wrote. */
export function performFor(call: Call): { readonly value: number; bytes(out: Out): Buffer } {
  if (call.childSocket !== undefined) {
    throw new InvalidArgumentError(`${call.name}: a child can't be made in this process, only in a remote process`)
  }
  const door = libc()
  arena ??= door.allocate(arenaSize)
  const memory = arena
  const { replySize, outs } = encode([call], memory.bytes, { architecture: door.architecture, address: memory.address })
  // The call lies behind the part that a reply would have.
  const args: bigint[] = []
  for (let i = 0; i < 6; i++) args.push(memory.bytes.readBigInt64LE(replySize + 8 + i * 8))
  const value = checked(call, door.syscall(memory.bytes.readUInt32LE(replySize), ...args))
  // Copied now: the next call uses the same memory.
  const written = new Map<Out, Buffer>()
  for (const [out, at] of outs) written.set(out, Buffer.from(memory.bytes.subarray(at, at + out.size)))
  return {
    value,
    bytes(out) {
      const bytes = written.get(out)
      if (bytes === undefined) throw new InvalidArgumentError(`${call.name} does not write to that memory`)
      return bytes
    },
  }
}

/** @throws SyscallError for a result that is a failure. */
function checked(call: Call, value: number): number {
  if (value < 0 && value > -4096 && !isTolerated(call, -value)) throw syscallError(call, -value)
  return value
}

/** Whether `errno` is no failure of `call`. */
export function isTolerated(call: Call, errno: number): boolean {
  return call.tolerate === 'any' || (call.tolerate !== undefined && errnoNumber(call.tolerate) === errno)
}
