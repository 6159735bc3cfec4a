import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { collect } from '../../src/content/verify.ts'
import { chainId } from '../../src/image/chain-id.ts'
import type { Container, RunOptions } from '../../src/index.ts'
import { read } from '../layer/support/read.ts'
import { tar } from '../layer/support/tar.ts'
import { type TreeEntry, tree } from '../layer/support/tree.ts'
import { busyboxImage, cannotRunAsRoot } from './support/busybox.ts'
import { filesOf } from './support/merged.ts'
import { Sandbox } from './support/sandbox.ts'

const below = tar(
  { name: 'data/', type: '5', mode: 0o755, mtime: 4 },
  { name: 'data/kept', content: 'kept', mode: 0o4755, uid: 7, mtime: 5 },
  { name: 'data/linked', type: '1', linkName: 'data/kept' },
  { name: 'data/changed', content: 'old', mtime: 5 },
  { name: 'data/removed', content: 'gone', mtime: 5 },
  { name: 'data/hidden', content: 'hidden' },
  { name: 'data/emptied/', type: '5', mode: 0o755, mtime: 5 },
  { name: 'data/emptied/old', content: 'old' },
)
const above = tar({ name: 'data/.wh.hidden' }, { name: 'data/above', content: 'above', mtime: 6 })

const ids = [{ containerID: 0, hostID: 100_000, size: 65_536 }]

const script = [
  'cd /data && printf new > changed && rm removed && rm -r emptied && mkdir emptied && echo fresh > emptied/fresh',
  'echo added > /added && ln /added /hard && ln -s /added /soft && chown 1000:50 /added && chmod 4755 /bin/busybox',
  'mkfifo /fifo && cat above && ! cat hidden && mkdir /dir && echo x > /dir/x',
].join(' && ')

/** What is there, without the times of what was made just now. */
function timeless(files: Record<string, TreeEntry>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(files).map(([name, { mtime, ...rest }]) => [name, mtime < 10n ** 12n ? { ...rest, mtime } : rest]),
  )
}

async function changesOf(box: Container): Promise<readonly string[]> {
  const changes: string[] = []
  for await (const { kind, path } of box.diff()) changes.push(`${kind} ${path}`)
  return changes.sort()
}

const putImage = (sandbox: Sandbox): Promise<void> => sandbox.put('changing', busyboxImage({ layers: [below, above] }))

const runIn = (sandbox: Sandbox, command: readonly string[], options: RunOptions = {}): Promise<Container> =>
  sandbox.engine.run('changing', { command, pull: 'never', cgroupsPath: sandbox.cgroup(), ...options })

describe.skipIf(cannotRunAsRoot)(`containers whose layers are copied (${cannotRunAsRoot ?? 'real ones'})`, () => {
  let sandbox: Sandbox
  let stacked: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox('copy')
    stacked = new Sandbox('overlay')
    for (const each of [sandbox, stacked]) {
      await putImage(each)
      await (await runIn(each, ['true'])).remove()
      await each.prepare()
    }
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => {
    sandbox.remove()
    stacked.remove()
  })

  /** A container of each kind that has made the changes. */
  async function changed(options: RunOptions = {}): Promise<readonly [copied: Container, stacked: Container]> {
    const boxes = [await runIn(sandbox, ['sh', '-c', script], options), await runIn(stacked, ['sh', '-c', script])]
    for (const box of boxes) expect((await box.exited).code).toBe(0)
    return boxes as [Container, Container]
  }

  it('mount no overlay, and leave the layers as they are', async () => {
    await using box = await runIn(sandbox, [
      'sh',
      '-c',
      'grep " / " /proc/self/mountinfo; echo x >> /data/kept; sleep 1000',
    ])
    const { value } = await box.logs({ follow: true })[Symbol.asyncIterator]().next()
    expect(value?.text).not.toContain('overlay')
    expect(box.warnings).toEqual([])
    const store = await sandbox.engine.store()
    expect(await store.rootfs()).toEqual({ kind: 'copy' })
    expect((await store.check()).findings).toEqual([])
    const layer = await store.openWritable(box.id)
    expect([layer.lower, layer.copied?.length]).toEqual([[], 3])
  })

  it('show what they have changed as others do', async () => {
    const [one, other] = await changed()
    await using _ = one
    await using __ = other
    expect(await changesOf(one)).toEqual(await changesOf(other))
    const log = async (box: Container): Promise<unknown> => {
      const lines: string[] = []
      for await (const { text } of box.logs()) lines.push(text)
      return lines
    }
    expect(await log(one)).toEqual(await log(other))
  })

  it('become images with the same files', async () => {
    const [one, other] = await changed()
    await using _ = one
    await using __ = other
    const [image, expected] = [await sandbox.engine.commit(one, { name: 'made' }), await stacked.engine.commit(other)]
    // Stacked by the kernel, from an archive.
    await sandbox.engine.save('made', join(sandbox.directory, 'made.tar'))
    await stacked.engine.load(join(sandbox.directory, 'made.tar'))
    const files = await filesOf(stacked, image)
    expect(timeless(files)).toEqual(timeless(await filesOf(stacked, expected)))
    expect(files.added).toMatchObject({ owner: '1000:50', link: 'added' })
    // No more than the changes.
    expect(image.manifest.layers.at(-1)?.size).toBeLessThan(2_000_000)
    const names = async (from: Sandbox, { manifest }: typeof image): Promise<readonly string[]> => {
      const layer = manifest.layers.at(-1) as (typeof manifest.layers)[number]
      const { gunzipSync } = await import('node:zlib')
      const blob = await collect(await (await from.engine.store()).fetch(layer))
      return read(gunzipSync(blob)).map(({ name }) => name.toString())
    }
    const made = await names(sandbox, image)
    expect(made).not.toContain('data/kept')
    expect(made).toContain('data/.wh.removed')
    await using again = await sandbox.engine.run('made', { command: ['cat', '/added'], cgroupsPath: sandbox.cgroup() })
    expect((await again.exited).code).toBe(0)
    expect(await changesOf(again)).toEqual([])
  })

  it('are exported and copied out of and into, running or not', async () => {
    const [one, other] = await changed()
    await using _ = one
    await using __ = other
    const exported = async (box: Container): Promise<readonly string[]> =>
      read(Buffer.from(await collect(await box.exportRootfs()))).map(({ name }) => name.toString())
    expect(await exported(one)).toEqual(await exported(other))
    await using running = await runIn(sandbox, ['sleep', '1000'])
    for (const box of [one, running]) {
      const place = mkdtempSync(join(sandbox.directory, 'place-'))
      writeFileSync(join(place, 'in'), 'from outside')
      await box.copyIn(join(place, 'in'), '/data')
      await box.copyOut('/data/in', join(place, 'out'))
      expect(readFileSync(join(place, 'out'), 'utf8')).toBe('from outside')
      await box.copyOut('/data/kept', place, { archive: true })
      expect(tree(place).kept).toMatchObject({ owner: '7:0', mode: '104755', mtime: 5_000_000_000n })
      expect(await changesOf(box)).toContain('added /data/in')
    }
  })

  it('fill volumes with what the image has', async () => {
    const mounts = [{ type: 'volume', source: 'filled', target: '/data' }] as const
    await using box = await runIn(sandbox, ['true'], { mounts })
    await box.exited
    const { path } = await sandbox.engine.volumes.inspect('filled')
    expect(readdirSync(path).sort()).toEqual(['above', 'changed', 'emptied', 'kept', 'linked', 'removed'])
    await box.remove()
    await sandbox.engine.volumes.remove('filled')
  })

  it('live on when they are detached, and are removed as others are', async () => {
    await using box = await runIn(sandbox, ['sh', '-c', 'echo x > /made; sleep 1000'], { detach: true, name: 'copied' })
    await sandbox.reopen()
    const handle = await sandbox.engine.attach('copied')
    await expect.poll(() => changesOf(handle), { timeout: 30_000 }).toEqual(['added /made'])
    expect((await sandbox.engine.prune({ images: 'unused' })).containers).toEqual([])
    // What it was made of is still there.
    expect(await changesOf(handle)).toEqual(['added /made'])
    expect((await sandbox.engine.check()).findings).toEqual([])
    await handle.stop({ timeout: 0 })
    const usage = await sandbox.engine.diskUsage()
    expect(usage.containers.find(({ id }) => id === box.id)?.size).toBeGreaterThan(500_000)
    expect((await sandbox.engine.prune()).containers).toEqual([box.id])
    expect(existsSync(join(sandbox.root, 'containers', box.id))).toBe(false)
  })

  it('have their names while layers are still being copied, so that no other one waits for that', async () => {
    const store = await sandbox.engine.store()
    const below = (await sandbox.engine.inspect('changing')).config.rootfs.diff_ids
    const seen: (readonly string[])[] = []
    const layer = await store.createWritable(chainId(below), {
      id: 'a'.repeat(64),
      onMade: () => seen.push(readdirSync(join(sandbox.root, 'containers', 'a'.repeat(64), 'upper'))),
    })
    expect([seen, readdirSync(layer.upper).length > 3]).toEqual([[[]], true])
    await layer.remove()
    const refused = new Error('refused')
    const made = store.createWritable(chainId(below), {
      id: 'b'.repeat(64),
      onMade: () => {
        throw refused
      },
    })
    await expect(made).rejects.toBe(refused)
    expect(readdirSync(join(sandbox.root, 'containers'))).toEqual([])
  })

  it('wait in pools', async () => {
    await using pool = await sandbox.engine.createPool('changing', { size: 1, pull: 'never' })
    await using box = await pool.run({ command: ['sh', '-c', 'cat /data/above > /made'] })
    expect((await box.exited).code).toBe(0)
    expect(await changesOf(box)).toEqual(['added /made'])
  })

  it('leave nothing when the copy is interrupted', async () => {
    const stop = new AbortController()
    const running = runIn(sandbox, ['true'], { detach: true, name: 'interrupted', signal: stop.signal })
    await expect
      .poll(() => readdirSync(join(sandbox.root, 'containers')).length, { interval: 1, timeout: 30_000 })
      .toBe(1)
    stop.abort(new Error('enough'))
    await expect(running).rejects.toThrow('enough')
    expect(readdirSync(join(sandbox.root, 'containers'))).toEqual([])
  })
})

describe.skipIf(cannotRunAsRoot)(
  `a store where overlayfs can't be mounted (${cannotRunAsRoot ?? 'on an overlay'})`,
  () => {
    it('copies layers, and says why; when overlayfs is asked for, its error does', async () => {
      const place = mkdtempSync(join(tmpdir(), 'oci-ts-on-overlay-'))
      const parts = ['lower', 'upper', 'work', 'merged'].map((name) => join(place, name))
      for (const part of parts) mkdirSync(part)
      const [lower, upper, work, merged] = parts as [string, string, string, string]
      const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`
      execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', options, merged])
      try {
        const sandbox = new Sandbox(undefined, merged)
        await putImage(sandbox)
        await using box = await runIn(sandbox, ['sh', '-c', 'echo x > /made'])
        expect((await box.exited).code).toBe(0)
        const { kind, reason } = await (await sandbox.engine.store()).rootfs()
        expect(kind).toBe('copy')
        expect(reason).toMatch(/^overlayfs can't be used in .*: mount/)
        expect(box.warnings).toContain(reason)
        expect(await changesOf(box)).toEqual(['added /made'])
        await box.remove()
        const asked = new Sandbox('overlay', merged)
        await asked.put('busybox')
        await expect(asked.run(['true'])).rejects.toThrow(/overlay/)
        expect(readdirSync(join(asked.root, 'containers'))).toEqual([])
      } finally {
        execFileSync('umount', ['-l', merged])
        rmSync(place, { recursive: true, force: true })
      }
    })

    it.each([
      ['for root', {}],
      ['for a user namespace', { userNamespace: { uidMappings: ids, gidMappings: ids } }],
    ])('is one on ramfs, which has neither attributes nor mapped owners, %s', async (_, options) => {
      const place = mkdtempSync(join(tmpdir(), 'oci-ts-ramfs-'))
      execFileSync('mount', ['-t', 'ramfs', '-o', 'mode=755', 'ramfs', place])
      try {
        const sandbox = new Sandbox(undefined, place)
        const hiding = tar({ name: 'data/.wh..wh..opq' }, { name: 'data/new', content: 'new' })
        await sandbox.put('changing', busyboxImage({ layers: [below, hiding] }))
        const command = ['sh', '-c', 'ls /data && rm -r /data && mkdir /data && echo x > /data/made']
        await using box = await runIn(sandbox, command, options)
        expect((await box.exited).code).toBe(0)
        expect(box.warnings).toEqual([expect.stringContaining('operation not supported (EOPNOTSUPP)')])
        expect(await changesOf(box)).toEqual(['added /data/made', 'changed /data', 'deleted /data/new'])
        const { value } = await box.logs()[Symbol.asyncIterator]().next()
        expect(value?.text).toBe('new')
      } finally {
        execFileSync('umount', ['-l', place])
        rmSync(place, { recursive: true, force: true })
      }
    })

    it('is told from one where it can: overlayfs is tried once in a boot', async () => {
      const sandbox = new Sandbox()
      try {
        const store = await sandbox.engine.store()
        expect(await store.rootfs()).toEqual({ kind: 'overlay' })
        const note = join(sandbox.root, 'overlay')
        const found = readFileSync(note, 'latin1')
        writeFileSync(note, found.replace(/^\S+/, 'another-boot'))
        await sandbox.reopen()
        const { openStore } = await import('../../src/store/index.ts')
        expect(await (await openStore({ root: sandbox.root })).rootfs()).toEqual({ kind: 'overlay' })
        expect(readFileSync(note, 'latin1')).toBe(found)
        expect(readdirSync(join(sandbox.root, 'tmp'))).toEqual([])
        const broken = await openStore({ root: sandbox.root })
        rmSync(join(sandbox.root, 'containers'), { recursive: true })
        const gone = { code: 'ERR_OCI_SYSCALL', errnoName: 'ENOENT', subject: sandbox.root }
        await expect(broken.rootfs()).rejects.toMatchObject(gone)
      } finally {
        sandbox.remove()
      }
    })
  },
)
