import { mkdirSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { collect } from '../../src/content/verify.ts'
import type { Container, RunOptions } from '../../src/index.ts'
import type { Host } from '../../src/runtime/host.ts'
import { read } from '../layer/support/read.ts'
import { tar } from '../layer/support/tar.ts'
import { tree } from '../layer/support/tree.ts'
import { busyboxImage, cannotRunAsRoot } from './support/busybox.ts'
import { Sandbox } from './support/sandbox.ts'

let kernel: readonly [number, number] | undefined

vi.mock('../../src/runtime/host.ts', async (original) => {
  const module = await original<typeof import('../../src/runtime/host.ts')>()
  return { ...module, thisHost: (): Host => ({ ...module.thisHost(), ...(kernel === undefined ? {} : { kernel }) }) }
})

const ids = [{ containerID: 0, hostID: 300_000, size: 65_536 }]
const userNamespace = { uidMappings: ids, gidMappings: ids }

const capability = Buffer.from(`0100000200040000${'00'.repeat(12)}`, 'hex')
const below = tar(
  { name: 'data/', type: '5', mode: 0o755, uid: 7, gid: 8 },
  { name: 'data/owned', content: 'owned', mode: 0o640, uid: 1000, gid: 50, mtime: 5 },
  { name: 'data/caps', content: 'caps', pax: { 'SCHILY.xattr.security.capability': capability }, mtime: 5 },
  { name: 'data/set', content: 'set', mode: 0o4755, mtime: 5 },
  { name: 'data/gone', content: 'gone' },
  { name: 'data/opaque/old', content: 'old' },
)
const above = tar({ name: 'data/.wh.gone' }, { name: 'data/opaque/.wh..wh..opq' }, { name: 'data/opaque/new' })

const script = [
  'stat -c "%n %u:%g %a" /data /data/owned /data/set; ls /data /data/opaque',
  'echo x > /made && chown 5:6 /made && echo y >> /data/owned && rm /data/set && mkdir /dir && chmod 700 /dir',
].join('; ')

async function linesOf(box: Container): Promise<readonly string[]> {
  const lines: string[] = []
  for await (const { text } of box.logs({ follow: true })) lines.push(text)
  return lines
}

async function changesOf(box: Container): Promise<readonly string[]> {
  const changes: string[] = []
  for await (const { kind, path } of box.diff()) changes.push(`${kind} ${path}`)
  return changes
}

const ways = [
  ['overlay', 'stacked one at a time', undefined],
  ['overlay', 'stacked by mount(2)', [6, 1]],
  ['copy', 'copied', undefined],
] as const

describe.skipIf(cannotRunAsRoot).each(ways)(
  `a user namespace of root's (${cannotRunAsRoot ?? 'real'}), layers by %s: %s`,
  (rootfs, how, version) => {
    let sandbox: Sandbox
    beforeAll(async () => {
      kernel = version
      sandbox = new Sandbox(rootfs)
      await sandbox.put('mapped', busyboxImage({ layers: [below, above] }))
      await (await runMapped(['true'])).remove()
      await sandbox.prepare()
    })
    afterEach(() => sandbox.expectNothingLeft())
    afterAll(() => {
      kernel = undefined
      sandbox.remove()
    })

    const runMapped = (command: readonly string[], options: RunOptions = {}): Promise<Container> =>
      sandbox.engine.run('mapped', { command, userNamespace, pull: 'never', cgroupsPath: sandbox.cgroup(), ...options })

    const upperOf = (box: Container, name: string): string => join(sandbox.root, 'containers', box.id, 'upper', name)

    it('shows the owners of the image, and has those of the host on the disk', async () => {
      await using box = await runMapped(['sh', '-c', script])
      expect(await linesOf(box)).toEqual([
        '/data 7:8 755',
        '/data/owned 1000:50 640',
        '/data/set 0:0 4755',
        '/data:',
        'caps',
        'opaque',
        'owned',
        'set',
        '',
        '/data/opaque:',
        'new',
      ])
      expect((await box.exited).code).toBe(0)
      expect(statSync(upperOf(box, 'made'))).toMatchObject({ uid: 300_005, gid: 300_006 })
      expect(statSync(upperOf(box, 'data/owned'))).toMatchObject({ uid: 301_000, gid: 300_050 })
      expect(statSync(upperOf(box, 'dir'))).toMatchObject({ uid: 300_000, gid: 300_000 })
      // Nothing of it is root's on the host, nor has the image been touched.
      expect(statSync(upperOf(box, '.'))).toMatchObject({ uid: 300_000, gid: 300_000 })
      expect((await (await sandbox.engine.store()).check()).findings).toEqual([])
    })

    it('is no part of images: they have the owners that the container sees', async () => {
      await using box = await runMapped(['sh', '-c', `${script}; cat /data/caps > /dev/null`])
      await box.exited
      const changes = (await changesOf(box)).filter((change) => !/ \/(dev|proc|sys)/.test(change))
      expect(changes.sort()).toEqual([
        'added /dir',
        'added /made',
        'changed /data',
        'changed /data/owned',
        'deleted /data/set',
      ])
      const image = await sandbox.engine.commit(box, { name: 'committed' })
      const layer = image.manifest.layers.at(-1) as (typeof image.manifest.layers)[number]
      const blob = Buffer.from(await collect(await (await sandbox.engine.store()).fetch(layer)))
      const owners = new Map(read(gunzipSync(blob)).map(({ name, uid, gid }) => [name.toString(), `${uid}:${gid}`]))
      expect(owners.get('made')).toBe('5:6')
      expect(owners.get('data/owned')).toBe('1000:50')
      expect(owners.get('dir/')).toBe('0:0')
      expect(owners.has('data/.wh.set')).toBe(true)
      expect(owners.has('data/caps')).toBe(false)
      await using again = await sandbox.engine.run('committed', {
        command: ['stat', '-c', '%u:%g', '/made', '/data/owned'],
        cgroupsPath: sandbox.cgroup(),
      })
      expect(await linesOf(again)).toEqual(['5:6', '1000:50'])
    })

    it.each(['running', 'stopped'])(
      'gives and takes files of one that is %s by the ids that it sees',
      async (state) => {
        await using box = await runMapped(state === 'running' ? ['sleep', '1000'] : ['true'])
        if (state === 'stopped') await box.exited
        const place = mkdtempSync(join(sandbox.directory, 'place-'))
        mkdirSync(join(place, 'in'))
        writeFileSync(join(place, 'in/file'), 'from outside')
        await box.copyIn(join(place, 'in'), '/data')
        expect(statSync(upperOf(box, 'data/in/file'))).toMatchObject({ uid: 300_000, gid: 300_000 })
        await box.copyOut('/data', place, { archive: true })
        const out = tree(join(place, 'data'))
        expect(out.owned).toMatchObject({ owner: '1000:50', mode: '100640' })
        expect(out['in/file']?.owner).toBe('0:0')
        expect(out.caps?.xattrs['security.capability']).toBe(capability.toString('hex'))
        const exported = read(Buffer.from(await collect(await box.exportRootfs())))
        expect(exported.find(({ name }) => name.toString() === 'data/owned')).toMatchObject({ uid: 1000, gid: 50 })
      },
    )

    it('has file capabilities of the image', async () => {
      // CAP_NET_BIND_SERVICE, for a copy of busybox that an ordinary user of the container runs.
      const content = readFileSync(
        ['/bin/busybox', '/usr/bin/busybox'].find((path) => statSync(path, { throwIfNoEntry: false })) as string,
      )
      const bind = Buffer.from(`0100000200040000${'00'.repeat(12)}`, 'hex')
      const capable = tar({
        name: 'caps/busybox',
        content,
        mode: 0o755,
        pax: { 'SCHILY.xattr.security.capability': bind },
      })
      await sandbox.put('capable', busyboxImage({ layers: [capable] }))
      const command = ['/caps/busybox', 'grep', 'CapEff', '/proc/self/status']
      await using box = await sandbox.engine.run('capable', {
        ...{ command, userNamespace, user: '1000', pull: 'never', cgroupsPath: sandbox.cgroup() },
      })
      expect(await linesOf(box)).toEqual(['CapEff:\t0000000000000400'])
    })

    it('shares volumes with containers that have other ids, or all', async () => {
      const mounts = [{ type: 'volume', source: 'shared', target: '/data' }] as const
      await using one = await runMapped(
        ['sh', '-c', 'stat -c "%n %u:%g" /data /data/owned && echo z > /data/z && chown 9:9 /data/z'],
        { mounts },
      )
      expect(await linesOf(one)).toEqual(['/data 7:8', '/data/owned 1000:50'])
      const { path } = await sandbox.engine.volumes.inspect('shared')
      expect(readdirSync(path).sort()).toEqual(['caps', 'opaque', 'owned', 'set', 'z'])
      expect(statSync(join(path, 'z'))).toMatchObject({ uid: 9, gid: 9 })
      const other = [{ containerID: 0, hostID: 500_000, size: 65_536 }]
      for (const namespace of [undefined, { uidMappings: other, gidMappings: other }]) {
        await using two = await sandbox.run(['stat', '-c', '%u:%g', '/data/z'], {
          mounts,
          ...(namespace === undefined ? {} : { userNamespace: namespace }),
        })
        expect(await linesOf(two)).toEqual(['9:9'])
      }
      await one.remove()
      await sandbox.engine.volumes.remove('shared')
    })

    it('lives on when it is detached, and waits in pools', async () => {
      await using box = await runMapped(['sh', '-c', 'echo x > /made; sleep 1000'], {
        detach: true,
        name: how.replaceAll(/[^a-z]/g, '-'),
      })
      const handle = await sandbox.engine.attach(box.id)
      await expect.poll(() => changesOf(handle), { timeout: 30_000 }).toContain('added /made')
      await box.stop({ timeout: 0 })
      expect(await changesOf(handle)).toContain('added /made')
      expect((await sandbox.engine.commit(handle)).manifest.layers).toHaveLength(4)
      await using pool = await sandbox.engine.createPool('mapped', { size: 1, userNamespace, pull: 'never' })
      await using pooled = await pool.run({ command: ['stat', '-c', '%u:%g', '/data/owned'] })
      expect(await linesOf(pooled)).toEqual(['1000:50'])
    })

    it('refuses owners that it has no id for where they would have to be copied, and says so', async () => {
      const few = [{ containerID: 0, hostID: 300_000, size: 10 }]
      const running = runMapped(['true'], { userNamespace: { uidMappings: few, gidMappings: few } })
      if (rootfs === 'copy')
        await expect(running).rejects.toThrow(/it has no (user 1000|group 50), whom one of them belongs to/)
      else await (await running).remove()
    })
  },
)
