import { closeSync } from 'node:fs'
import { ConflictError, InvalidArgumentError, LimitError } from '../../errors.ts'
import { deadline, untilAborted } from '../../internal/abort.ts'
import { out } from '../../linux/call.ts'
import { POLLIN, pollNow, waitForEvent } from '../../linux/calls/processes.ts'
import {
  isStillWaiting,
  type Notification,
  notificationOut,
  parseNotification,
  type Response,
  readProcessMemory,
  receiveNotification,
  sendResponse,
} from '../../linux/calls/seccomp-notify.ts'
import { errnoNumber, syscallError } from '../../linux/errno.ts'
import { Answerer } from './answerer.ts'
import { FilterServer } from './filter-server.ts'
import type { NamedSyscall } from './names.ts'
import type { SyscallAnswer, SyscallHandler, WaitingSyscall } from './types.ts'

const EPERM = 1
const ENOSYS = 38
const maxErrno = 4095
/** Most bytes that are read at once of a caller. */
const maxMemory = 65_536

/** What is done with the calls of a filter. */
export interface SupervisorOptions {
  /** Id of the container, for errors. */
  readonly id: string
  /** What is known of a call; undefined for one that nobody answers. */
  readonly find: (audit: number, number: number) => (NamedSyscall & { readonly handler: SyscallHandler }) | undefined
  /** Milliseconds that a handler has. */
  readonly timeout: number
}

/** Answers the system calls that one filter hands over: those of a process and of all that come of it. */
export class Supervisor extends FilterServer {
  private readonly options: SupervisorOptions
  private readonly answerer: Answerer

  constructor(options: SupervisorOptions) {
    super(options.id)
    this.options = options
    this.answerer = new Answerer(this.socket)
  }

  protected override async closed(): Promise<void> {
    await this.answerer.close()
  }

  /** Takes calls until nobody is left who could make one. */
  protected override async receive(listener: number): Promise<void> {
    const { receiver } = this
    const background = { background: true }
    for (;;) {
      const gone = pollNow(listener, 0)
      const looked = await receiver.run([waitForEvent([{ fd: listener, events: POLLIN }]), gone], background)
      if (looked.value(gone) === 1) return
      const to = notificationOut()
      // The caller may have been killed since. On kernels before 6.11 this then waits for the next one.
      const taken = receiveNotification(listener, to, { tolerate: 'ENOENT' })
      const results = await receiver.run([taken], background)
      if (results.value(taken) === 0) void this.handle(parseNotification(results.bytes(to)))
    }
  }

  /** Never rejects. */
  private async handle(waiting: Notification): Promise<void> {
    const found = this.options.find(waiting.audit, waiting.number)
    if (this.passesOver()) {
      await this.respond(waiting.id, { goOn: true })
    } else if (found === undefined) {
      // Calls of i386 that are made through socketcall or ipc: libcs then take those of their own.
      await this.respond(waiting.id, { errno: ENOSYS })
    } else {
      await this.ask(waiting, found).catch(async (error: unknown) => {
        // When everything ends, nobody is to be told.
        if (this.isClosing) return
        this.warn(found.name, error)
        await this.respond(waiting.id, { errno: EPERM })
      })
    }
  }

  private async ask(waiting: Notification, found: NamedSyscall & { readonly handler: SyscallHandler }): Promise<void> {
    const { id, timeout } = this.options
    const { signal, clear } = deadline(`the answer to ${found.name} of container ${id}`, timeout, undefined)
    try {
      const asked = Promise.resolve(this.describe(waiting, found, signal)).then(found.handler)
      await this.answer(waiting.id, await untilAborted(asked, signal))
    } finally {
      clear()
    }
  }

  private describe({ id, pid, args }: Notification, { name, architecture }: NamedSyscall, signal: AbortSignal) {
    const readMemory = (address: bigint, length: number): Promise<Buffer> => this.read(id, pid, address, length, true)
    const readString = async (address: bigint, limit = 4096): Promise<string> => {
      const bytes = await this.read(id, pid, address, limit, false)
      const end = bytes.indexOf(0)
      if (end < 0) throw new LimitError(`text of the caller of ${name}`, limit, 'bytes')
      return bytes.toString('utf8', 0, end)
    }
    const call: WaitingSyscall = { name, architecture, pid, args, signal, readMemory, readString }
    return call
  }

  private async read(id: bigint, pid: number, address: bigint, length: number, all: boolean): Promise<Buffer> {
    if (!Number.isInteger(length) || length < 1 || length > maxMemory) {
      throw new InvalidArgumentError(`1 to ${maxMemory} bytes can be read of a caller, not ${length}`)
    }
    const to = out(length)
    const copy = readProcessMemory(pid, address, to, { step: `read memory of process ${pid}`, tolerate: 'any' })
    const results = await this.answerer.use(async (remote, listener) => {
      // When it still waits now, it was the caller whose memory that was, and no other process with its pid.
      const check = isStillWaiting(listener, id, { tolerate: 'any' })
      const copied = await remote.run([copy, check], { background: true })
      if (copied.value(check) !== 0) throw this.gone(pid)
      return copied
    })
    const size = results.value(copy)
    if (size < 0) throw syscallError(copy, -size)
    if (all && size < length) throw syscallError(copy, errnoNumber('EFAULT') as number)
    return Buffer.from(results.bytes(to).subarray(0, size))
  }

  private gone(pid: number): ConflictError {
    return new ConflictError(this.options.id, `process ${pid} does not wait for an answer any more`)
  }

  private async answer(id: bigint, answer: SyscallAnswer): Promise<void> {
    if (typeof answer === 'object' && 'descriptor' in answer) return this.inject(id, answer)
    await this.respond(id, responseOf(answer))
  }

  private async inject(id: bigint, answer: Extract<SyscallAnswer, { descriptor: number }>): Promise<void> {
    const { descriptor, closeOnExec = true, keepOpen = false } = answer
    try {
      const number = await this.answerer.inject(id, descriptor, closeOnExec)
      if (number < 0 && -number !== errnoNumber('ENOENT')) {
        throw new InvalidArgumentError(`descriptor ${descriptor} could not be given to the container`, {
          subject: this.options.id,
          cause: -number,
        })
      }
    } finally {
      if (!keepOpen) closeSync(descriptor)
    }
  }

  /** A caller that was killed, or interrupted, does not wait any more. */
  private async respond(id: bigint, response: Response): Promise<void> {
    const send = (): Promise<unknown> =>
      this.answerer.use((remote, listener) =>
        remote.run([sendResponse(listener, id, response, { tolerate: 'ENOENT' })], { background: true }),
      )
    // Once more when the process that was to do it had to be given up. After that nothing can be done.
    await send()
      .catch(() => send())
      .catch(() => {})
  }

  private warn(name: string, error: unknown): void {
    const text = error instanceof Error ? error.message : String(error)
    const message = `onSyscall of container ${this.options.id} did not answer ${name}, which fails with EPERM: ${text}`
    process.emitWarning(message, { code: 'OCI_SYSCALL' })
  }
}

function responseOf(answer: Exclude<SyscallAnswer, { descriptor: number }>): Response {
  if (answer === 'continue') return { goOn: true }
  if (typeof answer === 'object' && 'value' in answer) return { value: BigInt(answer.value) }
  if (typeof answer !== 'object' || !('errno' in answer)) throw noAnswer(answer)
  const errno = typeof answer.errno === 'string' ? errnoNumber(answer.errno) : answer.errno
  if (errno === undefined || !Number.isInteger(errno) || errno < 1 || errno > maxErrno) throw noAnswer(answer.errno)
  return { errno }
}

function noAnswer(answer: unknown): InvalidArgumentError {
  return new InvalidArgumentError(`${JSON.stringify(answer)} is no answer to a system call`)
}
