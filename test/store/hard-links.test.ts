import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { LayoutStore } from '../../src/content/layout.ts'
import { LayerError, LimitError } from '../../src/errors.ts'
import type { LayerLimits } from '../../src/layer/limits.ts'
import { openStore } from '../../src/store/index.ts'
import { isRoot, Scratch } from '../layer/support/apply.ts'
import { merge } from '../layer/support/diff.ts'
import { type TestEntry, tar } from '../layer/support/tar.ts'
import { type TreeEntry, tree } from '../layer/support/tree.ts'
import { image, put } from './support/image.ts'
import { hasTools } from './support/tools.ts'

const scratch = new Scratch()
const roots: string[] = []
afterAll(() => {
  scratch.clean()
  for (const root of roots) rmSync(root, { recursive: true, force: true })
})

const missing = isRoot && hasTools('umoci', 'unshare') ? undefined : 'needs root, umoci and unshare'

/** The directories of an image's layers, the highest one first. */
async function unpack(layers: readonly (readonly TestEntry[])[], limits: LayerLimits = {}): Promise<readonly string[]> {
  const root = mkdtempSync(join(tmpdir(), 'oci-ts-links-'))
  roots.push(root)
  const store = await openStore({ root, durability: 'none', limits })
  const made = image(layers.map((entries) => tar(...entries)))
  await put(store, made)
  return (await store.unpack(made.manifest, made.config)).layers
}

async function umoci(layers: readonly (readonly TestEntry[])[]): Promise<string> {
  const layout = join(scratch.directory(), 'layout')
  await put(await LayoutStore.create(layout), image(layers.map((entries) => tar(...entries))), 'image')
  const bundle = join(scratch.directory(), 'bundle')
  execFileSync('umoci', ['unpack', '--image', `${layout}:image`, bundle], { stdio: 'ignore' })
  return join(bundle, 'rootfs')
}

const directory = (name: string, mtime = 5): TestEntry => ({ name, type: '5', mode: 0o755, mtime })
const link = (name: string, linkName: string): TestEntry => ({ name, type: '1', linkName })

const base: readonly TestEntry[] = [
  directory('./'),
  directory('d/'),
  {
    name: 'd/file',
    content: 'content',
    mode: 0o4750,
    uid: 7,
    gid: 8,
    pax: { mtime: '9.000000123', 'SCHILY.xattr.user.a': Buffer.from([0, 255]) },
  },
  { name: 'd/large', content: 'x'.repeat(900_000), mtime: 3 },
  { name: 'd/symlink', type: '2', linkName: '/nowhere', mtime: 4 },
  { name: 'd/fifo', type: '6', mode: 0o600 },
  { name: 'd/null', type: '3', device: [1, 3], mode: 0o666 },
]

describe.skipIf(missing)(`a hard link to a file of a layer below (${missing ?? 'with umoci to compare'})`, () => {
  it('is another name of it, as umoci has it', async () => {
    const layers = [
      base,
      [directory('other/')],
      [
        directory('./'),
        directory('d/'),
        link('one', 'd/file'),
        link('two', 'd/file'),
        link('d/three', 'two'),
        link('big', './d/large'),
        link('soft', 'd/symlink'),
        link('pipe', 'd/fifo'),
        link('null', '/d/null'),
      ],
    ]
    const merged = tree(merge(scratch, await unpack(layers)))
    expect(merged).toEqual(tree(await umoci(layers)))
    expect(merged['d/file']?.link).toBe('d/file')
    expect(merged.one).toEqual(merged['d/file'])
  })

  it('keeps what the file was when the layer replaces or removes that', async () => {
    const layers = [
      base,
      [
        directory('./'),
        directory('d/'),
        link('before', 'd/file'),
        { name: 'd/file', content: 'new', mtime: 1 },
        link('kept', 'd/large'),
        { name: 'd/.wh.large' },
      ],
    ]
    const merged: Record<string, TreeEntry> = tree(merge(scratch, await unpack(layers)))
    expect(merged).toEqual(tree(await umoci(layers)))
    expect(merged.before?.size).toBe(7n)
    expect(merged.kept?.size).toBe(900_000n)
  })

  it('may itself be replaced or removed before the layer ends', async () => {
    const layers = [
      base,
      [
        directory('./'),
        link('x', 'd/file'),
        { name: 'x', content: 'own', mtime: 1 },
        link('y/z', 'd/file'),
        { name: 'y', mtime: 2 },
      ],
    ]
    const merged = tree(merge(scratch, await unpack(layers)))
    expect(merged.x?.size).toBe(3n)
    expect(merged.y?.type).toBe('file')
    expect(merged['d/file']?.link).toBeUndefined()
  })

  it.each([
    ['is not there', [link('x', 'd/missing')]],
    ['a layer between has removed', [link('x', 'gone/file')]],
    ['is a directory', [link('x', 'd')]],
    ['is behind a symlink', [link('x', 'd/symlink/file')]],
  ])('is refused when what it names %s', async (_, top) => {
    const below = [...base, directory('gone/'), { name: 'gone/file' }]
    await expect(unpack([below, [directory('gone/'), { name: 'gone/.wh..wh..opq' }], top])).rejects.toThrow(LayerError)
  })

  it('does not see what a layer between has hidden as a whole, nor does a directory that is not named', async () => {
    const hiding = [directory('./'), { name: '.wh..wh..opq' }, { name: 'fresh', content: 'x', mtime: 1 }]
    await expect(unpack([base, hiding, [link('x', 'd/file')]])).rejects.toThrow(LayerError)
    const secret = { name: 'd/', type: '5', mode: 0o700, uid: 5 }
    const layers = await unpack([[secret, { name: 'd/old' }], hiding, [{ name: 'd/new', mtime: 1 }]])
    const merged = tree(merge(scratch, layers))
    expect(Object.keys(merged).sort()).toEqual(['.', 'd', 'd/new', 'fresh'])
    expect(merged.d).toMatchObject({ mode: '40755', owner: '0:0' })
    expect(tree(merge(scratch, await unpack([base, hiding, [link('x', 'fresh')]]))).x?.link).toBe('fresh')
  })

  it('counts for the limit on content', async () => {
    const layers = [base, [link('big', 'd/large')]]
    await expect(unpack(layers, { maxContent: 1_000_000 })).resolves.toHaveLength(2)
    const more = { name: 'd/larger', content: 'y'.repeat(95_000) }
    const two = [
      [...base, more],
      [link('big', 'd/large'), link('bigger', 'd/larger')],
    ]
    await expect(unpack(two, { maxContent: 999_999 })).resolves.toHaveLength(2)
    await expect(unpack(layers, { maxContent: 900_000 })).rejects.toThrow(LimitError)
  })
})
