import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { InvalidArgumentError, UnsupportedError } from '../errors.ts'
import { type Architecture, hostArchitecture } from './architecture.ts'
import { errnoName } from './errno.ts'
import { syscallNumber } from './syscall-numbers.ts'

/**
 * The only file that knows ffi-rs. It offers two things: memory at a known address, and calls of
 * libc functions that take and return integers. All else is built on them in TypeScript.
 */

/** What of ffi-rs 1.3 is used; its own types can't be imported without loading it. */
interface FfiRs {
  readonly DataType: { readonly I32: number; readonly BigInt: number; readonly External: number }
  open(options: { library: string; path: string }): void
  load(options: {
    library: string
    funcName: string
    retType: number
    paramsType: readonly number[]
    /** Of the call that is made. */
    paramsValue: readonly unknown[]
    errno: boolean
    freeResultMemory: boolean
  }): unknown
  createExternalBuffer(pointer: unknown, length: number): Buffer
}

/** The libc functions that are called, with the number of their arguments; all of them integers or addresses. */
const symbols = {
  syscall: 7,
  memset: 3,
  flock: 2,
  ioctl: 3,
  socketpair: 4,
  sendmsg: 3,
  posix_spawn: 6,
  posix_spawn_file_actions_init: 1,
  posix_spawn_file_actions_adddup2: 3,
  posix_spawn_file_actions_addopen: 5,
  posix_spawn_file_actions_destroy: 1,
  posix_spawnattr_init: 1,
  posix_spawnattr_setflags: 2,
  posix_spawnattr_setsigmask: 2,
  posix_spawnattr_setsigdefault: 2,
  posix_spawnattr_destroy: 1,
} as const

/** Name of a libc function of the table. */
export type LibcSymbol = keyof typeof symbols

/** A function that returns an int, or a size that fits one. */
export type LibcFunction = Exclude<LibcSymbol, 'syscall' | 'memset'>

/** Memory of this process at an address that can be handed to the kernel. */
export interface Memory {
  readonly address: number
  readonly bytes: Buffer
}

/** The door to libc. */
export interface Libc {
  readonly architecture: Architecture
  /**
   * Calls a function that returns an int (posix_spawn and its family: 0 or an errno; the others: -1 for a failure).
   * It takes half the time of {@link syscall}, which has more arguments and tells the errno.
   * @throws InvalidArgumentError for a wrong number of arguments, or one that is no integer.
   */
  call(symbol: LibcFunction, ...args: readonly number[]): number
  /**
   * Makes a system call of at most six arguments: its result, or the negative errno.
   * @throws InvalidArgumentError for another number of arguments, or one that is no bigint of 64 bits.
   */
  syscall(number: number, ...args: readonly bigint[]): number
  /** Zeroed memory that stays for the life of the process. */
  allocate(size: number): Memory
  /** The first `size` bytes of a file as memory that whoever else maps it sees too; stays as {@link allocate} does. */
  share(fd: number, size: number): Memory
}

const library = 'libc'
const markerName = 'oci-ts-libc'
let loaded: Libc | undefined

/**
 * The loaded libc. The first call opens it and resolves every symbol of the table.
 * @throws UnsupportedError where there is no Linux libc or ffi-rs for it; in a worker thread whose
 * main thread has not called this before (ffi-rs' table of symbols is not thread-safe).
 */
export function libc(): Libc {
  loaded ??= load()
  return loaded
}

/** That is the first thread of a process, as a rule. Loading node:worker_threads to be told takes longer than most of the rest. */
function isMainThread(): boolean {
  try {
    const [pid, , thread] = readlinkSync('/proc/thread-self').split('/')
    if (pid === thread) return true
  } catch {
    // There is no /proc.
  }
  const threads = createRequire(import.meta.url)('node:worker_threads') as typeof import('node:worker_threads')
  return threads.isMainThread
}

function load(): Libc {
  const architecture = hostArchitecture()
  const isMain = isMainThread()
  if (!isMain && !loadedByMainThread()) {
    throw new UnsupportedError(
      'the kernel interface',
      'this is a worker thread and the main thread has not loaded it',
      {
        hint: 'Call prepare() of oci-ts/runtime in the main thread before the worker starts.',
      },
    )
  }
  const ffi = loadBinding(architecture) ?? loadFfi()
  if (isMain) ffi.open({ library, path: '' })
  const door = new FfiLibc(ffi, architecture)
  if (isMain) {
    door.resolveAll()
    door.mark()
  }
  return door
}

/**
 * The compiled part of ffi-rs, which is all that is used of it. ffi-rs finds the right one by a diagnostic report, which
 * takes longer than all else until the first system call. Undefined where it is not beside ffi-rs.
 */
function loadBinding(architecture: Architecture): FfiRs | undefined {
  try {
    const kind = readFileSync('/proc/self/maps', 'latin1').includes('/ld-musl-') ? 'musl' : 'gnu'
    const beside = createRequire(createRequire(import.meta.url).resolve('ffi-rs'))
    return beside(`@yuuang/ffi-rs-linux-${architecture}-${kind}`) as FfiRs
  } catch {
    return undefined
  }
}

/** By way of ffi-rs itself, which also tells what is wrong. */
function loadFfi(): FfiRs {
  // ffi-rs asks for a diagnostic report to tell glibc from musl; with connections open, Node would
  // look up the name of every peer for it, and block meanwhile.
  const report = process.report as typeof process.report & { excludeNetwork?: boolean | undefined }
  const { excludeNetwork } = report
  report.excludeNetwork = true
  try {
    return createRequire(import.meta.url)('ffi-rs') as FfiRs
  } catch (cause) {
    throw new UnsupportedError('the kernel interface', 'the package ffi-rs could not be loaded', {
      cause,
      hint: 'Install without --omit=optional, on glibc or musl, x64 or arm64.',
    })
  } finally {
    report.excludeNetwork = excludeNetwork
  }
}

/** The main thread leaves an anonymous file open as a sign that every thread can see. */
function loadedByMainThread(): boolean {
  return readdirSync('/proc/self/fd').some((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(`/memfd:${markerName}`)
    } catch {
      return false // closed since the directory was read
    }
  })
}

/** Longest list of arguments of a system call. */
const maxArguments = 6

type Request = Parameters<FfiRs['load']>[0]

class FfiLibc implements Libc {
  readonly architecture: Architecture
  private readonly ffi: FfiRs
  private readonly requests = new Map<LibcSymbol, Request>()

  constructor(ffi: FfiRs, architecture: Architecture) {
    this.ffi = ffi
    this.architecture = architecture
    const { I32, BigInt: I64, External } = ffi.DataType
    for (const [name, count] of Object.entries(symbols)) {
      this.requests.set(name as LibcSymbol, {
        library,
        funcName: name,
        retType: name === 'syscall' ? I64 : name === 'memset' ? External : I32,
        paramsType: new Array<number>(count).fill(I64),
        paramsValue: [],
        errno: name === 'syscall',
        freeResultMemory: false,
      })
    }
  }

  /** Every symbol is looked up by a harmless call: arguments that make the function return at once. */
  resolveAll(): void {
    const scratch = this.allocate(4096).address // mmap by syscall, and memset
    const calls: Readonly<Record<LibcFunction, readonly number[]>> = {
      posix_spawn_file_actions_init: [scratch],
      posix_spawn_file_actions_adddup2: [scratch, 0, 0],
      posix_spawn_file_actions_addopen: [scratch, 0, scratch + 2048, 0, 0],
      posix_spawn_file_actions_destroy: [scratch],
      posix_spawnattr_init: [scratch],
      posix_spawnattr_setflags: [scratch, 0],
      posix_spawnattr_setsigmask: [scratch, scratch + 2048],
      posix_spawnattr_setsigdefault: [scratch, scratch + 2048],
      posix_spawnattr_destroy: [scratch],
      flock: [-1, 0],
      ioctl: [-1, 0, 0],
      socketpair: [0, 0, 0, 0],
      sendmsg: [-1, 0, 0],
      // The empty path names no program: ENOENT, and nothing is started.
      posix_spawn: [scratch, scratch + 2048, 0, 0, scratch + 2048, scratch + 2048],
    }
    for (const [symbol, args] of Object.entries(calls)) this.call(symbol as LibcFunction, ...args)
  }

  mark(): void {
    const name = this.allocate(markerName.length + 1)
    name.bytes.write(markerName)
    const closeOnExec = 1n
    this.syscall(syscallNumber('memfd_create', this.architecture), BigInt(name.address), closeOnExec)
  }

  call(symbol: LibcFunction, ...args: readonly number[]): number {
    if (args.length !== symbols[symbol]) {
      throw new InvalidArgumentError(`${symbol} takes ${symbols[symbol]} arguments, not ${args.length}`)
    }
    const values = args.map((arg) => {
      if (!Number.isSafeInteger(arg)) throw new InvalidArgumentError(`${symbol}: ${String(arg)} is no integer`)
      return BigInt(arg)
    })
    return this.invoke(symbol, values) as number
  }

  syscall(number: number, ...args: readonly bigint[]): number {
    if (!Number.isInteger(number) || number < 0) throw new InvalidArgumentError(`${number} is no system call`)
    if (args.length > maxArguments) throw new InvalidArgumentError('a system call has at most six arguments')
    const values = [BigInt(number)]
    for (let i = 0; i < maxArguments; i++) {
      const arg = args[i] ?? 0n
      if (typeof arg !== 'bigint' || arg < -(2n ** 63n) || arg >= 2n ** 64n) {
        throw new InvalidArgumentError(`system call ${number}: ${String(arg)} is no bigint of 64 bits`)
      }
      values.push(BigInt.asIntN(64, arg))
    }
    const result = this.invoke('syscall', values) as { value: bigint | number; errnoCode: number }
    // errno means something only when the call says that it failed.
    return Number(result.value) === -1 ? -result.errnoCode : Number(result.value)
  }

  allocate(size: number): Memory {
    // MAP_PRIVATE | MAP_ANONYMOUS
    return this.map(size, 0x22, -1)
  }

  share(fd: number, size: number): Memory {
    // MAP_SHARED
    return this.map(size, 0x01, fd)
  }

  private map(size: number, flags: number, fd: number): Memory {
    // PROT_READ | PROT_WRITE
    const mmap = syscallNumber('mmap', this.architecture)
    const address = this.syscall(mmap, 0n, BigInt(size), 3n, BigInt(flags), BigInt(fd), 0n)
    if (address < 0 && address > -4096) {
      throw new UnsupportedError('the kernel interface', `no memory: mmap of ${size} bytes gave ${errnoName(-address)}`)
    }
    // memset of nothing returns its argument as the native pointer that a Buffer is made from.
    const pointer = this.invoke('memset', [BigInt(address), 0n, 0n])
    return { address, bytes: this.ffi.createExternalBuffer(pointer, size) }
  }

  private invoke(symbol: LibcSymbol, paramsValue: readonly unknown[]): unknown {
    const request = this.requests.get(symbol)
    if (request === undefined) throw new InvalidArgumentError(`${symbol} is not in the table of libc functions`)
    request.paramsValue = paramsValue
    try {
      return this.ffi.load(request)
    } catch (cause) {
      // ffi-rs' own message is often empty.
      throw new UnsupportedError(`the function ${symbol} of libc`, 'ffi-rs could not call it', { cause })
    }
  }
}
