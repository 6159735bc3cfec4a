import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { decodeMessage, encodeMessage, type Message, messageType } from '../../../src/linux/dbus/message.ts'
import type { Value } from '../../../src/linux/dbus/signature.ts'

const program = ['/usr/bin/dbus-daemon', '/bin/dbus-daemon'].find((path) => existsSync(path))

/** Why there can be no bus here. */
export const noBus: string | undefined = program === undefined ? 'needs dbus-daemon' : undefined

/** A message bus of the test's own: the reference implementation, which checks every message. */
export class TestBus implements AsyncDisposable {
  readonly path: string
  private readonly directory: string
  private readonly daemon: ChildProcess
  private readonly ended: Promise<unknown>

  private constructor(directory: string, path: string, daemon: ChildProcess, ended: Promise<unknown>) {
    this.directory = directory
    this.path = path
    this.daemon = daemon
    this.ended = ended
  }

  static async start(): Promise<TestBus> {
    const directory = mkdtempSync(join(tmpdir(), 'oci-ts-bus-'))
    const path = join(directory, 'socket')
    const config = join(directory, 'bus.conf')
    writeFileSync(
      config,
      `<busconfig><type>session</type><listen>unix:path=${path}</listen><auth>EXTERNAL</auth><policy context="default">
      <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`,
    )
    const daemon = spawn(program as string, ['--nofork', '--print-address', `--config-file=${config}`], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const ended = new Promise((resolve) => daemon.once('exit', resolve))
    // It tells its address when it listens.
    await new Promise((resolve, reject) => {
      daemon.stdout?.once('data', resolve)
      daemon.once('error', reject).once('exit', () => reject(new Error('dbus-daemon has ended')))
    })
    return new TestBus(directory, path, daemon, ended)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.daemon.kill()
    await this.ended
    rmSync(this.directory, { recursive: true })
  }
}

/** What a service answers: the signature and the values, or the name of an error. */
export type Answer = { readonly signature?: string; readonly body?: readonly Value[] } | { readonly error: string }

/** A service on a bus. */
export class TestService {
  private readonly socket: Socket
  private readonly answer: (call: Message) => Answer
  private serial = 100
  private rest: Buffer = Buffer.alloc(0)
  private ready: () => void = () => {}

  private constructor(socket: Socket, answer: (call: Message) => Answer) {
    this.socket = socket
    this.answer = answer
  }

  static async start(path: string, name: string, answer: (call: Message) => Answer): Promise<TestService> {
    const service = new TestService(connect(path), answer)
    const { socket } = service
    socket.write(`\0AUTH EXTERNAL ${Buffer.from(String(process.geteuid?.())).toString('hex')}\r\n`)
    await new Promise((resolve) => socket.once('data', resolve))
    socket.write('BEGIN\r\n')
    const owned = new Promise<void>((resolve) => {
      service.ready = resolve
    })
    socket.on('data', (chunk) => service.receive(chunk))
    const bus = {
      destination: 'org.freedesktop.DBus',
      path: '/org/freedesktop/DBus',
      interface: 'org.freedesktop.DBus',
    }
    service.send({ ...bus, type: messageType.call, serial: 1, member: 'Hello' })
    service.send({
      ...{ ...bus, type: messageType.call, serial: 2, member: 'RequestName', signature: 'su', body: [name, 4] },
    })
    await owned
    return service
  }

  signal(message: Omit<Message, 'type' | 'serial'>): void {
    this.send({ ...message, type: messageType.signal, serial: ++this.serial })
  }

  stop(): void {
    this.socket.destroy()
  }

  private send(message: Message): void {
    this.socket.write(encodeMessage(message))
  }

  private receive(chunk: Buffer): void {
    this.rest = Buffer.concat([this.rest, chunk])
    for (let next = decodeMessage(this.rest); next !== undefined; next = decodeMessage(this.rest)) {
      this.rest = this.rest.subarray(next.size)
      const { message } = next
      if (message.replySerial === 2) this.ready()
      if (message.type !== messageType.call) continue
      const to = { destination: message.sender, replySerial: message.serial, serial: ++this.serial }
      const answer = this.answer(message)
      if ('error' in answer) {
        const body = ['refused by the test']
        this.send({ ...to, type: messageType.error, errorName: answer.error, signature: 's', body })
      } else {
        this.send({ ...to, type: messageType.answer, ...answer })
      }
    }
  }
}
