import { execFileSync } from 'node:child_process'
import { existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Volume } from '../../src/store/index.ts'
import { tar } from '../layer/support/tar.ts'
import { tree } from '../layer/support/tree.ts'
import { busyboxImage, cannotRunAsRoot } from './support/busybox.ts'
import { Sandbox } from './support/sandbox.ts'

const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex')

describe.skipIf(cannotRunAsRoot)(`volumes of containers (${cannotRunAsRoot ?? 'real ones'})`, () => {
  let sandbox: Sandbox
  let outside: string
  beforeAll(async () => {
    sandbox = new Sandbox()
    outside = mkdtempSync(join(tmpdir(), 'oci-ts-outside-'))
    writeFileSync(join(outside, 'secret'), 'secret')
    const layer = tar(
      { name: 'data/', type: '5', mode: 0o2770, uid: 70, gid: 71, mtime: 1000 },
      { name: 'data/file', content: 'content', mode: 0o4640, uid: 1000, gid: 1001, mtime: 2000 },
      { name: 'data/linked', type: '1', linkName: 'data/file' },
      { name: 'data/deep/', type: '5', mode: 0o700, mtime: 3000 },
      { name: 'data/deep/empty', mode: 0, mtime: 4000 },
      { name: 'data/out', type: '2', linkName: join(outside, 'secret'), uid: 5, gid: 6 },
      { name: 'data/fifo', type: '6', mode: 0o620 },
      { name: 'data/null', type: '3', device: [1, 3], mode: 0o666 },
      { name: Buffer.from('data/odd\xffname', 'latin1'), content: 'x' },
      { name: 'data/marked', pax: { 'SCHILY.xattr.user.mark': 'é', 'SCHILY.xattr.security.capability': capability } },
      { name: 'data/whole', content: Buffer.alloc(300_000, 'ab') },
      { name: 'gone/', type: '5' },
      { name: 'gone/below', content: 'x' },
      { name: 'link', type: '2', linkName: '/etc' },
      { name: 'inner', type: '2', linkName: '/data/deep' },
    )
    const above = tar({ name: 'gone/.wh.below' }, { name: 'data/upper', content: 'upper' })
    await sandbox.put(
      'volumes',
      busyboxImage({ layers: [layer, above], config: { Volumes: { '/data': {}, '/empty': {} } } }),
    )
    await sandbox.put('plain', busyboxImage({ layers: [layer, above] }))
    await run('volumes', 'true')
    await sandbox.prepare()
  })
  afterEach(async () => {
    await (await sandbox.engine.store()).volumes.prune({ all: true })
    await sandbox.expectNothingLeft()
  })
  afterAll(() => {
    sandbox.remove()
    rmSync(outside, { recursive: true, force: true })
  })

  const list = async (): Promise<readonly Volume[]> => (await sandbox.engine.store()).volumes.list()
  const run = async (image: string, script: string, options: Parameters<Sandbox['sh']>[1] = {}): Promise<string> => {
    const box = await sandbox.engine.run(image, { command: ['sh', '-c', script], pull: 'never', ...options })
    try {
      const lines: string[] = []
      for await (const { text } of box.logs({ follow: true })) lines.push(text)
      return lines.join('\n')
    } finally {
      await box.remove()
    }
  }

  it('keep what is written to them from one container to the next', async () => {
    const mounts = [{ type: 'volume', source: 'kept', target: '/kept' }] as const
    expect(await run('plain', 'ls /kept; echo first >/kept/file; chown 5:6 /kept/file', { mounts })).toBe('')
    expect(await run('plain', 'cat /kept/file; stat -c %u:%g /kept/file', { mounts })).toBe('first\n5:6')
    expect(await list()).toMatchObject([{ name: 'kept', anonymous: false, usedBy: [] }])
  })

  it('start with what the image has there, in every attribute', async () => {
    await run('plain', 'true', { mounts: [{ type: 'volume', source: 'copy', target: '/data' }] })
    const store = await sandbox.engine.store()
    const [volume] = await store.volumes.list()
    const image = (await store.images()).find(({ name }) => name?.includes('plain'))
    expect(image).toBeDefined()
    const found = tree(volume?.path ?? '')
    expect(found).toHaveProperty(['odd\xffname'])
    // What a program sees of the image without a volume is what it sees of the volume.
    const list = `cd /data && find . | sort | while read -r f; do stat -c '%n %a %u:%g %Y %F' "$f"; done; stat -c %h file linked; readlink out; cat file odd* upper | od -c; od -c whole 2>/dev/null | tail -2`
    const direct = await run('plain', list)
    expect(await run('plain', list, { mounts: [{ type: 'volume', source: 'copy', target: '/data' }] })).toBe(direct)
    expect(found.marked?.xattrs['user.mark']).toBe(Buffer.from('é').toString('hex'))
    expect(found.marked?.xattrs['security.capability']).toBe(capability.toString('hex'))
  })

  it('do not start with anything when told not to', async () => {
    const mounts = [{ type: 'volume', source: 'bare', target: '/data', copy: false }] as const
    expect(await run('plain', 'ls /data', { mounts })).toBe('')
  })

  it('are not filled twice, nor when they have something', async () => {
    const mounts = [{ type: 'volume', source: 'own', target: '/data' }] as const
    await run('plain', 'rm -r /data/* && echo mine >/data/mine', { mounts })
    expect(await run('plain', 'ls /data', { mounts })).toBe('mine')
  })

  it('do not show what lies outside of the image, wherever its symlinks point', async () => {
    const mounts = [{ type: 'volume', source: 'trap', target: '/link' }] as const
    await run('plain', 'true', { mounts })
    const [volume] = await list()
    expect(readdirSync(volume?.path ?? '').sort()).toEqual(['group', 'passwd'])
    expect(readFileSync(join(volume?.path ?? '', 'group'), 'utf8')).toContain('staff:x:50:user')
    expect(await run('plain', 'ls /inner/', { mounts: [{ type: 'volume', source: 'inner', target: '/inner' }] })).toBe(
      'empty',
    )
  })

  it('can be read-only, and shared by containers that run', async () => {
    const writer = await sandbox.run(['sleep', '1000'], {
      mounts: [{ type: 'volume', source: 'shared', target: '/w' }],
    })
    const [volume] = await list()
    writeFileSync(join(volume?.path ?? '', 'seen'), 'seen')
    const mounts = [{ type: 'volume', source: 'shared', target: '/r', readOnly: true }] as const
    expect(await run('plain', 'cat /r/seen; touch /r/x 2>/dev/null || echo refused', { mounts })).toBe('seenrefused')
    const store = await sandbox.engine.store()
    expect((await store.volumes.inspect('shared')).usedBy).toEqual([writer.id])
    await expect(store.volumes.remove('shared')).rejects.toThrow(/mounted by container/)
    await writer.remove()
    await store.volumes.remove('shared')
  })

  it('are made for the paths that an image wants to be volumes, and go with the container', async () => {
    const box = await sandbox.engine.run('volumes', { command: ['sleep', '1000'], pull: 'never' })
    const made = await list()
    expect(made).toMatchObject([
      { anonymous: true, usedBy: [box.id] },
      { anonymous: true, usedBy: [box.id] },
    ])
    expect(made.map(({ path }) => readdirSync(path).includes('upper')).sort()).toEqual([false, true])
    await box.remove()
    expect(await list()).toEqual([])
    expect(await run('volumes', 'grep -c " /data \\| /empty " /proc/self/mountinfo; ls /data | wc -l')).toBe('2\n10')
  })

  it('are not made where the options mount something else', async () => {
    const mounts = [
      { type: 'tmpfs', target: '/empty/' },
      { type: 'volume', source: 'named', target: '/data' },
    ] as const
    const box = await sandbox.engine.run('volumes', { command: ['sleep', '1000'], pull: 'never', mounts })
    expect((await list()).map(({ name }) => name)).toEqual(['named'])
    await box.remove()
  })

  it('without a name are removed with a detached container, too', async () => {
    const box = await sandbox.engine.run('volumes', { command: ['true'], pull: 'never', detach: true })
    expect(await list()).toHaveLength(2)
    await box.exited
    await box.remove()
    expect(await list()).toEqual([])
  })

  it('leave nothing behind but named ones when a run fails', async () => {
    const mounts = [{ type: 'volume', source: 'stays', target: '/x' }] as const
    await expect(run('volumes', 'true', { command: ['/no-such-program'], mounts })).rejects.toThrow()
    expect((await list()).map(({ name }) => name)).toEqual(['stays'])
    expect(existsSync(join(sandbox.root, 'tmp'))).toBe(true)
  })

  it('are exported and imported as archives, in every attribute', async () => {
    await run('plain', 'mknod /data/whiteout c 0 0; touch /data/.wh.name', {
      mounts: [{ type: 'volume', source: 'from', target: '/data' }],
    })
    const { volumes } = sandbox.engine
    const imported = await volumes.import('to', await volumes.export('from'), { labels: { of: 'from' } })
    expect(imported).toMatchObject({ name: 'to', labels: { of: 'from' }, anonymous: false })
    const [before, after] = [tree((await volumes.inspect('from')).path), tree(imported.path)]
    expect(Object.keys(before)).toContain('.wh.name')
    expect(after).toEqual(before)
    await expect(volumes.import('to', await volumes.export('from'))).rejects.toThrow(/not empty/)
    await expect(volumes.export('missing')).rejects.toThrow(/no volume "missing"/)
    await expect(volumes.import('broken', Buffer.alloc(2000, 'x'))).rejects.toMatchObject({ code: 'ERR_OCI_LAYER' })
    expect(readdirSync((await volumes.inspect('broken')).path)).toEqual([])
    const hostile = tar(
      { name: '../../out', content: 'x' },
      { name: 'link', type: '2', linkName: outside },
      { name: 'link/new', content: 'x' },
    )
    await volumes.import('hostile', hostile).catch(() => {})
    expect(readdirSync(outside)).toEqual(['secret'])
  })

  it('have names, not paths', async () => {
    const source = '/etc'
    await expect(run('plain', 'true', { mounts: [{ type: 'volume', source, target: '/x' }] })).rejects.toThrow(/bind/)
    expect(lstatSync('/etc').isDirectory()).toBe(true)
    expect(execFileSync('ls', [join(sandbox.root, 'volumes')], { encoding: 'utf8' })).toBe('')
  })
})
