import { execFileSync } from 'node:child_process'
import { createReadStream, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { LayoutStore } from '../../../src/content/layout.ts'
import { applyLayer } from '../../../src/layer/apply/apply.ts'
import { openStore } from '../../../src/store/index.ts'
import { image, put } from '../../store/support/image.ts'
import { hasTools } from '../../store/support/tools.ts'
import { isRoot, Scratch } from '../support/apply.ts'
import { debianArchive } from '../support/debian.ts'
import { type TestEntry, tar } from '../support/tar.ts'
import { tree } from '../support/tree.ts'

const scratch = new Scratch()
afterAll(() => scratch.clean())

describe.skipIf(!isRoot || !hasTools('mmdebstrap'))('a Debian system (skipped without root and mmdebstrap)', () => {
  it('comes out as GNU tar unpacks it, in every attribute', { timeout: 180_000 }, async ({ skip }) => {
    const archive = await debianArchive()
    if (archive === undefined) return skip('mmdebstrap could not make one: is there a Debian mirror?')
    const ours = scratch.directory()
    const theirs = scratch.directory()
    const { entries } = await applyLayer(createReadStream(archive), ours)
    execFileSync('tar', ['-xf', archive, '--xattrs', '--xattrs-include=*', '--numeric-owner', '-C', theirs])
    const found = tree(ours)
    expect(Object.keys(found).length).toBe(entries)
    expect(found).toEqual(tree(theirs))
  })
})

describe.skipIf(!isRoot || !hasTools('umoci', 'unshare'))('layers (skipped without root and umoci)', () => {
  it('stacked by overlayfs are what umoci unpacks them to', { timeout: 60_000 }, async () => {
    const file = (name: string, more: Partial<TestEntry> = {}): TestEntry => ({
      name,
      content: name,
      mtime: 1_000_000,
      ...more,
    })
    const directory = (name: string, more: Partial<TestEntry> = {}): TestEntry => ({
      name: `${name}/`,
      type: '5',
      mode: 0o755,
      mtime: 2_000_000,
      ...more,
    })
    const one = image([
      tar(
        directory('./'),
        directory('bin', { mode: 0o2755, gid: 7 }),
        file('bin/su', { mode: 0o4755 }),
        { name: 'bin/link', type: '1', linkName: 'bin/su' },
        { name: 'lib', type: '2', linkName: 'usr/lib', mtime: 3 },
        directory('usr'),
        directory('usr/lib'),
        file('usr/lib/so', { pax: { mtime: '5.000000007', 'SCHILY.xattr.user.a': Buffer.from([0xff, 0]) } }),
        directory('var'),
        directory('var/cache'),
        file('var/cache/a'),
        file('var/cache/b'),
        directory('opt'),
        file('opt/gone'),
        { name: 'dev', type: '3', device: [1, 5], mode: 0o600 },
        { name: 'pipe', type: '6', mode: 0o620 },
      ),
      tar(
        directory('var', { mode: 0o711, uid: 3 }),
        directory('var/cache', { mode: 0o1777 }),
        { name: 'var/cache/.wh..wh..opq' },
        file('var/cache/c'),
        { name: '.wh.opt' },
        directory('usr'),
        directory('usr/lib'),
        file('usr/lib/so', { mode: 0o755, mtime: 9 }),
        { name: 'usr/lib/.wh.nothing' },
      ),
      tar(
        file('opt', { mtime: 77 }),
        directory('lib', { mode: 0o700 }),
        file('lib/own'),
        { name: 'bin/.wh.link' },
        directory('bin', { mode: 0o755 }),
      ),
    ])
    const layout = join(scratch.directory(), 'layout')
    await put(await LayoutStore.create(layout), one, 'image')
    const bundle = join(scratch.directory(), 'bundle')
    execFileSync('umoci', ['unpack', '--image', `${layout}:image`, bundle], { stdio: 'ignore' })

    const store = await openStore({ root: join(scratch.directory(), 'store'), durability: 'none' })
    await put(store, one)
    const { layers } = await store.unpack(one.manifest, one.config)
    const copy = scratch.directory()
    mkdirSync(join(copy, 'merged'))
    const script = 'mount -t overlay overlay -o ro,lowerdir="$1" "$2/merged" && cp -a "$2/merged" "$2/copy"'
    execFileSync('unshare', ['-m', 'sh', '-c', script, 'sh', layers.join(':'), copy])
    expect(tree(join(copy, 'copy'))).toEqual(tree(join(bundle, 'rootfs')))
  })
})
