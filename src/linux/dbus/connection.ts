import { connect, type Socket } from 'node:net'
import { NetworkError, ProtocolError, TimeoutError } from '../../errors.ts'
import { decodeMessage, encodeMessage, type Message, messageType } from './message.ts'
import type { Value } from './signature.ts'

/** A method to call. */
export interface MethodCall {
  /** Name on the bus; a connection to the service itself needs none. */
  readonly destination?: string | undefined
  readonly path: string
  readonly interface: string
  readonly member: string
  readonly signature?: string | undefined
  readonly body?: readonly Value[] | undefined
}

/** The other side refused a call. */
export class DBusError extends ProtocolError {
  /** Name of the error, `org.freedesktop.DBus.Error.…`. */
  readonly dbusName: string

  constructor(dbusName: string, message: string) {
    super('D-Bus', `${dbusName}: ${message}`)
    this.dbusName = dbusName
  }
}

/** Milliseconds that an answer may take; libdbus waits 25 s. */
const patience = 25_000
/** Longest line of the handshake, in bytes. */
const maxLine = 16_384

interface Pending {
  readonly resolve: (body: readonly Value[]) => void
  readonly reject: (error: Error) => void
  readonly timer: NodeJS.Timeout
}

/** A connection to a message bus, or straight to a service, over a socket of this host. */
export class DBusConnection implements AsyncDisposable {
  private readonly socket: Socket
  private readonly path: string
  private readonly pending = new Map<number, Pending>()
  private readonly listeners = new Set<(signal: Message) => void>()
  private readonly failures = new Set<(error: Error) => void>()
  private serial = 0
  private rest: Buffer = Buffer.alloc(0)
  private failure: Error | undefined

  private constructor(socket: Socket, path: string, rest: Buffer) {
    this.socket = socket
    this.path = path
    socket.on('data', (chunk: Buffer) => this.receive(chunk))
    socket.on('error', (cause) => this.fail(new NetworkError(path, cause.message, { cause })))
    socket.on('close', () => this.fail(new NetworkError(path, 'the connection was closed')))
    this.receive(rest)
  }

  /**
   * Connects and says who this process is: the kernel tells the other side the same (SASL EXTERNAL).
   * @param path of the socket; one with a NUL before it is in the abstract name space.
   * @throws NetworkError when nobody answers there. @throws ProtocolError when this user is refused.
   */
  static async open(path: string): Promise<DBusConnection> {
    const socket = connect(path)
    try {
      const rest = await authenticate(socket, path)
      return new DBusConnection(socket, path, rest)
    } catch (error) {
      socket.destroy()
      throw error
    }
  }

  /** Calls a method. @returns what it answers. @throws DBusError when it is refused. @throws TimeoutError after 25 s. */
  call(method: MethodCall): Promise<readonly Value[]> {
    if (this.failure !== undefined) return Promise.reject(this.failure)
    const serial = ++this.serial
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.pending.delete(serial)
        reject(new TimeoutError(`${method.interface}.${method.member}`, patience))
      }, patience)
      this.pending.set(serial, { resolve, reject, timer })
      this.socket.write(encodeMessage({ ...method, type: messageType.call, serial }))
    })
  }

  /** Calls `listener` with every signal that comes, and `failed` when none will any more. @returns what ends that. */
  listen(listener: (signal: Message) => void, failed: (error: Error) => void): () => void {
    if (this.failure !== undefined) failed(this.failure)
    this.listeners.add(listener)
    this.failures.add(failed)
    return () => {
      this.listeners.delete(listener)
      this.failures.delete(failed)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.fail(new NetworkError(this.path, 'the connection was closed here'))
  }

  private receive(chunk: Buffer): void {
    this.rest = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk])
    try {
      for (let next = decodeMessage(this.rest); next !== undefined; next = decodeMessage(this.rest)) {
        this.rest = this.rest.subarray(next.size)
        this.dispatch(next.message)
      }
    } catch (error) {
      this.fail(error as Error)
    }
  }

  private dispatch(message: Message): void {
    if (message.type === messageType.signal) {
      for (const listener of [...this.listeners]) listener(message)
      return
    }
    const serial = message.replySerial ?? 0
    const waiting = this.pending.get(serial)
    if (waiting === undefined) return
    this.pending.delete(serial)
    clearTimeout(waiting.timer)
    const { errorName = '', body = [] } = message
    if (message.type === messageType.error) waiting.reject(new DBusError(errorName, String(body[0] ?? '')))
    else waiting.resolve(body)
  }

  private fail(error: Error): void {
    if (this.failure !== undefined) return
    this.failure = error
    this.socket.destroy()
    for (const { reject, timer } of this.pending.values()) {
      clearTimeout(timer)
      reject(error)
    }
    this.pending.clear()
    for (const failed of [...this.failures]) failed(error)
  }
}

/** @returns what came behind the handshake. */
async function authenticate(socket: Socket, path: string): Promise<Buffer> {
  // Before the socket is connected: it is sent then. The other side sees who this is, and in a user namespace only that side does.
  // BEGIN comes with it: a systemd that got that together with a call would not look at the call before more comes.
  socket.write('\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n')
  const first = await nextLine(socket, path)
  const { line, rest } = first.line === 'DATA' ? await nextLine(socket, path, first.rest) : first
  if (!line.startsWith('OK ')) throw new ProtocolError(path, `this user is refused: ${line.slice(0, 100)}`)
  return rest
}

function nextLine(
  socket: Socket,
  path: string,
  known: Buffer = Buffer.alloc(0),
): Promise<{ readonly line: string; readonly rest: Buffer }> {
  return new Promise((resolve, reject) => {
    let bytes: Buffer = Buffer.alloc(0)
    const done = (act: () => void): void => {
      clearTimeout(timer)
      socket.off('data', onData).off('error', onError).off('close', onClose)
      act()
    }
    const onError = (cause: Error): void => done(() => reject(new NetworkError(path, cause.message, { cause })))
    const onClose = (): void => done(() => reject(new NetworkError(path, 'the connection was closed')))
    const onData = (chunk: Buffer): void => {
      bytes = Buffer.concat([bytes, chunk])
      const end = bytes.indexOf('\r\n')
      if (end >= 0) done(() => resolve({ line: bytes.toString('latin1', 0, end), rest: bytes.subarray(end + 2) }))
      else if (bytes.length > maxLine) done(() => reject(new ProtocolError(path, 'the handshake does not end')))
    }
    const timer = setTimeout(() => done(() => reject(new TimeoutError(`connecting to ${path}`, patience))), patience)
    socket.on('data', onData).on('error', onError).on('close', onClose)
    onData(known)
  })
}
