import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { DBusConnection } from '../../../src/linux/dbus/connection.ts'
import { decodeMessage, encodeMessage, messageType } from '../../../src/linux/dbus/message.ts'
import type { Value } from '../../../src/linux/dbus/signature.ts'
import { noBus, TestBus, TestService } from './support.ts'

const bus = { destination: 'org.freedesktop.DBus', path: '/org/freedesktop/DBus', interface: 'org.freedesktop.DBus' }
const name = 'dev.ocits.Echo'

describe.skipIf(noBus !== undefined)('a connection to a real message bus', () => {
  let daemon: TestBus
  let service: TestService
  beforeAll(async () => {
    daemon = await TestBus.start()
    service = await TestService.start(daemon.path, name, ({ member, signature = '', body = [] }) =>
      member === 'Echo' ? { signature, body } : { error: 'dev.ocits.Error.Refused' },
    )
  })
  afterAll(async () => {
    service.stop()
    await daemon[Symbol.asyncDispose]()
  })
  const opened = async (): Promise<DBusConnection> => {
    const connection = await DBusConnection.open(daemon.path)
    onTestFinished(() => connection[Symbol.asyncDispose]())
    await connection.call({ ...bus, member: 'Hello' })
    return connection
  }
  const echo = { destination: name, path: '/echo', interface: name }

  it('passes values of every type on, which the bus has checked', async () => {
    const connection = await opened()
    const values: readonly Value[] = [
      ...[7, -300, 300, true, -70_000, 70_000, -(2n ** 40n), 2n ** 63n, 0.5, 'größe', '/a/b', 'a{sv}'],
      Buffer.from([1, 2, 3]),
      [],
      [['one', { signature: 'au', value: [1, 2] }]],
      [5, 'x', [1n]],
      { signature: '(sv)', value: ['deep', { signature: 'b', value: false }] },
    ]
    const signature = 'ynqbiuxtdsogayata{sv}(usat)v'
    expect(await connection.call({ ...echo, member: 'Echo', signature, body: values })).toEqual(values)
  })

  it('answers many calls at once, each with its own', async () => {
    const connection = await opened()
    const numbers = Array.from({ length: 100 }, (_, number) => number)
    const answers = await Promise.all(
      numbers.map((each) => connection.call({ ...echo, member: 'Echo', signature: 'u', body: [each] })),
    )
    expect(answers.flat()).toEqual(numbers)
  })

  it('hands over signals that it asked for, until it stops listening', async () => {
    const connection = await opened()
    const seen: Value[] = []
    const end = connection.listen(
      ({ member, body }) => {
        if (member === 'Happened') seen.push(...(body ?? []))
      },
      () => {},
    )
    await connection.call({ ...bus, member: 'AddMatch', signature: 's', body: [`interface='${name}'`] })
    const happen = async (number: number): Promise<void> => {
      service.signal({ path: '/echo', interface: name, member: 'Happened', signature: 'u', body: [number] })
      // From the same service: it comes behind the signal.
      await connection.call({ ...echo, member: 'Echo' })
    }
    await happen(1)
    end()
    await happen(2)
    expect(seen).toEqual([1])
  })

  it('tells by its name the error that a call was refused with', async () => {
    const connection = await opened()
    await expect(connection.call({ ...echo, member: 'Other' })).rejects.toMatchObject({
      code: 'ERR_OCI_PROTOCOL',
      dbusName: 'dev.ocits.Error.Refused',
    })
    await expect(connection.call({ ...echo, destination: 'dev.ocits.Nobody', member: 'Other' })).rejects.toMatchObject({
      dbusName: 'org.freedesktop.DBus.Error.ServiceUnknown',
    })
  })

  it('ends what waits when it is closed, and takes no more', async () => {
    const connection = await opened()
    const waiting = connection.call({ ...echo, member: 'Echo' })
    await connection[Symbol.asyncDispose]()
    await expect(waiting).rejects.toMatchObject({ code: 'ERR_OCI_NETWORK' })
    await expect(connection.call({ ...echo, member: 'Echo' })).rejects.toMatchObject({ code: 'ERR_OCI_NETWORK' })
  })
})

describe('a connection to somebody hostile', () => {
  const serve = async (answer: (chunk: string) => string | Buffer | undefined): Promise<string> => {
    const directory = mkdtempSync(join(tmpdir(), 'oci-ts-dbus-'))
    const path = join(directory, 'socket')
    const server = createServer((socket) => {
      socket.on('error', () => {})
      socket.on('data', (chunk) => {
        const bytes = answer(chunk.toString('latin1'))
        if (bytes === undefined) socket.end()
        else socket.write(bytes)
      })
    })
    await new Promise<void>((resolve) => server.listen(path, resolve))
    onTestFinished(() => {
      server.close()
      rmSync(directory, { recursive: true })
    })
    return path
  }

  it('is refused where nobody is, where this user is, and where the greeting does not end', async () => {
    await expect(DBusConnection.open('/nowhere/socket')).rejects.toMatchObject({ code: 'ERR_OCI_NETWORK' })
    const rejecting = await serve(() => 'REJECTED EXTERNAL\r\n')
    await expect(DBusConnection.open(rejecting)).rejects.toMatchObject({ code: 'ERR_OCI_PROTOCOL' })
    const endless = await serve(() => 'O'.repeat(20_000))
    await expect(DBusConnection.open(endless)).rejects.toMatchObject({ code: 'ERR_OCI_PROTOCOL' })
    const closing = await serve(() => undefined)
    await expect(DBusConnection.open(closing)).rejects.toMatchObject({ code: 'ERR_OCI_NETWORK' })
  })

  it('ends the handshake before it calls: systemd may overlook a call that comes with the end', async () => {
    const chunks: string[] = []
    const path = await serve((chunk) => {
      chunks.push(chunk)
      return chunks.length === 1 ? 'DATA\r\nOK 00\r\n' : undefined
    })
    const connection = await DBusConnection.open(path)
    await expect(connection.call({ ...bus, member: 'Hello' })).rejects.toMatchObject({ code: 'ERR_OCI_NETWORK' })
    expect(chunks).toEqual(['\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n', expect.stringContaining('Hello')])
  })

  it('fails when a message is too large to be kept, or none at all', async () => {
    const large = encodeMessage({ type: messageType.answer, serial: 1, replySerial: 1 })
    large.writeUInt32LE(0xffff_0000, 4)
    for (const bytes of [large, Buffer.from('HTTP/1.1 400 Bad Request\r\n')]) {
      const path = await serve((chunk) => (chunk.startsWith('\0AUTH') ? 'OK 00\r\n' : bytes))
      const connection = await DBusConnection.open(path)
      await expect(connection.call({ ...bus, member: 'Hello' })).rejects.toMatchObject({ code: 'ERR_OCI_PROTOCOL' })
    }
  })

  it('reads whatever bytes are changed in a message as one, or refuses it', () => {
    const message = encodeMessage({
      ...{ type: messageType.signal, serial: 9, path: '/a', interface: 'a.b', member: 'C', signature: 'a{sv}au' },
      body: [[['key', { signature: 'as', value: ['x', 'y'] }]], [1, 2, 3]],
    })
    expect(decodeMessage(message)?.message.body).toEqual([[['key', { signature: 'as', value: ['x', 'y'] }]], [1, 2, 3]])
    const outcomes = new Set<string>()
    for (let at = 0; at < message.length; at++) {
      for (const value of [0, 1, 0x28, 0x61, 0x76, 0x7f, 0xff]) {
        const changed = Buffer.from(message)
        changed[at] = value
        try {
          outcomes.add(decodeMessage(changed) === undefined ? 'incomplete' : 'read')
        } catch (error) {
          outcomes.add((error as { readonly code?: string }).code ?? String(error))
        }
      }
    }
    expect([...outcomes].sort()).toEqual(['ERR_OCI_PROTOCOL', 'incomplete', 'read'])
  })
})
