import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { accountsOfImage } from '../../src/engine/accounts.ts'
import { NotFoundError } from '../../src/errors.ts'
import { type TestEntry, tar } from '../layer/support/tar.ts'
import { busyboxImage, cannotRunAsRoot } from './support/busybox.ts'
import { nothing, settledLeftovers } from './support/leftovers.ts'
import { Sandbox } from './support/sandbox.ts'

describe.skipIf(cannotRunAsRoot)(`the user of a container (${cannotRunAsRoot ?? 'looked up for real'})`, () => {
  let sandbox: Sandbox
  beforeAll(() => {
    sandbox = new Sandbox()
  })
  afterAll(() => sandbox.remove())

  /** Uid and gid of a container that is run as `user`, of an image with one more layer. */
  function idOf(name: string, user: string, ...entries: readonly TestEntry[]): Promise<string> {
    return idOfLayers(name, user, [entries])
  }

  async function idOfLayers(name: string, user: string, layers: readonly (readonly TestEntry[])[]): Promise<string> {
    await sandbox.put(name, busyboxImage({ layers: layers.map((entries) => tar(...entries)) }))
    const found: string[] = []
    // What was found of an image is remembered.
    for (let i = 0; i < 2; i++) {
      await using box = await sandbox.engine.run(name, { user, command: ['stat', '-c', '%u %g', '/proc/self/'] })
      await box.exited
      for await (const { text } of box.logs()) found.push(text)
    }
    expect(found[1]).toBe(found[0])
    return found[0] ?? ''
  }

  const accounts = 'root:x:0:0::/:/bin/sh\nuser:x:77:88::/:/bin/sh\n'

  it('is looked up in the highest layer that has the file', async () => {
    expect(await idOf('higher', 'user', { name: 'etc/passwd', content: accounts })).toBe('77 88')
    expect(await idOf('unchanged', 'user', { name: 'etc/other', content: accounts })).toBe('1000 1000')
  })

  it('is not found in a file that a higher layer has removed', async () => {
    await expect(idOf('removed', 'user', { name: 'etc/.wh.passwd' })).rejects.toThrow(NotFoundError)
    await expect(idOf('opaque', 'user', { name: 'etc/.wh..wh..opq' })).rejects.toThrow(NotFoundError)
    const anew: readonly TestEntry[] = [{ name: '.wh.etc' }, { name: 'etc/', type: '5' }]
    await expect(idOf('replaced', 'user', ...anew)).rejects.toThrow(NotFoundError)
    await expect(idOf('emptied', 'user', { name: '.wh.etc' })).rejects.toThrow(NotFoundError)
  })

  it('is found behind a symbolic link, which leads nowhere out of the image', async () => {
    const link: TestEntry = { name: 'etc/passwd', type: '2', linkName: '/usr/lib/../lib/passwd' }
    expect(await idOf('linked', 'user', link, { name: 'usr/lib/passwd', content: accounts })).toBe('77 88')
    for (const [name, linkName] of Object.entries({
      proc: '/proc/self/root/etc/passwd',
      out: '../../../../../../../../../../etc/group',
      loop: 'passwd',
    })) {
      // daemon is a user of the host that runs this test.
      await expect(idOf(name, 'daemon', { name: 'etc/passwd', type: '2', linkName })).rejects.toThrow(NotFoundError)
    }
  })

  it('is found behind symbolic links of one layer that lead to another', async () => {
    const file: TestEntry = { name: 'usr/etc/passwd', content: accounts }
    const link = (linkName: string): TestEntry => ({ name: 'etc', type: '2', linkName })
    for (const [name, linkName] of Object.entries({ relative: 'usr/etc', absolute: '/usr/etc', up: '../../usr/etc' })) {
      const orders = {
        above: [[file], [link(linkName)]],
        below: [[link(linkName)], [file]],
        same: [[file, link(linkName)]],
      }
      for (const [order, layers] of Object.entries(orders)) {
        expect(await idOfLayers(`${name}-${order}`, 'user', layers)).toBe('77 88')
      }
    }
    const further: TestEntry = { name: 'usr/etc', type: '2', linkName: '/opt/a/../b/etc' }
    const twice = [
      [
        { name: 'opt/a/', type: '5' },
        { name: 'opt/b/etc/passwd', content: accounts },
      ],
      [further],
      [link('usr/etc')],
    ]
    expect(await idOfLayers('twice', 'user', twice)).toBe('77 88')
  })

  it('is not looked up in the directory that a symbolic link has replaced, nor outside of the image', async () => {
    for (const [name, linkName] of Object.entries({
      nowhere: '/nowhere',
      loop: 'etc',
      host: '../../../../../../etc',
    })) {
      const link: TestEntry = { name: 'etc', type: '2', linkName }
      await expect(idOfLayers(`${name}-etc`, 'user', [[link]])).rejects.toThrow(NotFoundError)
      await expect(idOfLayers(`${name}-etc`, 'daemon', [[link]])).rejects.toThrow(NotFoundError)
    }
  })

  it('is told to be out of reach when a layer is gone', async () => {
    const gone = { code: 'ERR_OCI_SYSCALL', errnoName: 'ENOENT', subject: '/nowhere/layer' }
    await expect(accountsOfImage(['/nowhere/layer'])).rejects.toMatchObject(gone)
  })

  it('is not waited for where the file is a fifo, a directory or a device', async () => {
    const kinds: readonly TestEntry[] = [
      { name: 'etc/passwd', type: '6' },
      { name: 'etc/passwd/', type: '5' },
      { name: 'etc/passwd', type: '3', device: [1, 5] },
    ]
    for (const [index, entry] of kinds.entries()) {
      await expect(idOf(`kind-${index}`, 'user', entry)).rejects.toThrow(NotFoundError)
      expect(await idOf(`kind-${index}`, '5:6', entry)).toBe('5 6')
    }
  })

  it('leaves nothing behind when it is not found', async () => {
    expect(await settledLeftovers(sandbox)).toEqual(nothing)
  })
})
