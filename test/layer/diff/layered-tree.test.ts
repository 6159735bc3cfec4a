import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { LayerError } from '../../../src/errors.ts'
import { copyLayers } from '../../../src/store/copy-layers.ts'
import { hasTools } from '../../store/support/tools.ts'
import { isRoot, Scratch } from '../support/apply.ts'
import { merge, packChanges } from '../support/diff.ts'
import { randomEntries } from '../support/random-layers.ts'
import { read } from '../support/read.ts'
import { type TestEntry, tar } from '../support/tar.ts'
import { type TreeEntry, tree } from '../support/tree.ts'

const scratch = new Scratch()
afterAll(() => scratch.clean())

const missing = isRoot && hasTools('unshare') ? undefined : 'needs root and unshare'

/** Of the root overlayfs takes no mark: a store leaves out the layers below it. Much of the rest would be refused. */
function isTakenByBoth({ name, type }: TestEntry): boolean {
  return type !== '1' && !/^(\.\/)*\.wh\.\.wh\.\.opq$|(^|\/)\.\.(\/|$)/.test(String(name))
}

/** Directories that no entry names have the time at which they were made. */
function timeless(entries: Record<string, TreeEntry>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(entries).map(([name, { mtime: _, ...rest }]) => [name, rest]))
}

/** A copy of layers, the highest one first. */
async function copyOf(layers: readonly string[]): Promise<string> {
  const directory = join(scratch.directory(), 'copy')
  mkdirSync(directory)
  await copyLayers(layers, directory, {})
  return directory
}

describe.skipIf(missing)(`layers that are copied (${missing ?? 'compared with overlayfs'})`, () => {
  it('are told to be gone where one is', async () => {
    await expect(copyOf(['/nowhere/layer'])).rejects.toMatchObject({ code: 'ERR_OCI_SYSCALL', errnoName: 'ENOENT' })
  })

  it('make the tree that overlayfs shows, in every attribute', async () => {
    const capability = Buffer.from(`0100000200040000${'00'.repeat(12)}`, 'hex')
    const lowest = tar(
      { name: './', type: '5', mode: 0o711, mtime: 7 },
      { name: 'kept/', type: '5', mode: 0o2750, uid: 5, gid: 6, mtime: 10 },
      { name: 'kept/file', content: 'x'.repeat(300_000), mode: 0o4755, uid: 1000, mtime: 11 },
      { name: 'kept/hard', type: '1', linkName: 'kept/file' },
      { name: 'kept/caps', content: 'c', pax: { 'SCHILY.xattr.security.capability': capability } },
      { name: 'kept/link', type: '2', linkName: '../opaque/old', uid: 3, mtime: 12 },
      { name: 'kept/fifo', type: '6', mode: 0o620 },
      { name: 'kept/null', type: '3', device: [1, 3] },
      { name: Buffer.from('kept/odd\xff', 'latin1'), content: 'odd' },
      { name: 'opaque/old', content: 'old' },
      { name: 'opaque/deep/old', content: 'old' },
      { name: 'gone/below', content: 'gone' },
      { name: 'became-file/x', content: 'x' },
      { name: 'became-directory', content: 'file' },
      { name: 'forged/', type: '5', pax: { 'SCHILY.xattr.trusted.overlay.opaque': 'y' } },
    )
    const middle = tar(
      { name: 'kept/', type: '5', mode: 0o700, mtime: 20 },
      { name: '.wh.gone' },
      { name: 'opaque/.wh..wh..opq' },
      { name: 'opaque/new', content: 'new' },
      { name: 'became-file', content: 'now a file' },
      { name: 'became-directory/', type: '5' },
      { name: 'became-directory/in', content: 'in' },
    )
    const highest = tar(
      { name: 'gone/again', content: 'again' },
      { name: 'opaque/deep/newest', content: 'newest' },
      { name: 'kept/.wh.hard' },
      { name: '.wh.became-file' },
    )
    const layers = await Promise.all([highest, middle, lowest].map((layer) => scratch.apply(layer)))
    const copy = tree(await copyOf(layers))
    expect(copy).toEqual(tree(merge(scratch, layers)))
    expect(copy.gone?.type).toBe('directory')
    expect(Object.keys(copy).filter((name) => name.startsWith('gone/'))).toEqual(['gone/again'])
    expect(copy.forged?.xattrs).toEqual({ 'trusted.overlay.opaque': '79' })
    // Where neither devices nor attributes can be made, files are the marks.
    const marked = await Promise.all([highest, middle].map((layer) => scratch.apply(layer, { marks: 'files' })))
    expect(tree(marked[1] as string)['opaque/.wh..wh..opq']).toMatchObject({ type: 'file', size: 0n })
    expect(timeless(tree(await copyOf([...marked, layers[2] as string])))).toEqual(timeless(copy))
  })

  it('do so whatever is in them', { timeout: 60_000 }, async () => {
    let compared = 0
    for (let round = 0; round < 40; round += 1) {
      const [layers, marked]: [string[], string[]] = [[], []]
      for (let n = 0; n < 3; n += 1) {
        const entries = randomEntries(1000 + round * 3 + n).filter(isTakenByBoth)
        const layer = await scratch.apply(tar(...entries)).catch((error: unknown) => {
          if (!(error instanceof LayerError)) throw error
        })
        if (layer === undefined) continue
        layers.unshift(layer)
        marked.unshift(await scratch.apply(tar(...entries), { marks: 'files' }))
      }
      if (layers.length < 2) continue
      compared += 1
      const expected = tree(merge(scratch, layers, { tolerant: true }))
      for (const each of [layers, marked])
        expect(timeless(tree(await copyOf(each))), `round ${round}`).toEqual(timeless(expected))
    }
    expect(compared).toBeGreaterThan(10)
  })

  it('are what the copy is compared with: no more than what is different is in a layer of it', async () => {
    const before = await scratch.apply(
      tar(
        { name: './', type: '5', mtime: 1 },
        { name: 'a/', type: '5', mtime: 1 },
        { name: 'a/one', content: 'one', mtime: 2 },
        { name: 'a/two', type: '1', linkName: 'a/one' },
        { name: 'a/three', content: 'three', mtime: 2 },
        { name: 'b/deep/file', content: 'file', mtime: 3 },
      ),
    )
    expect(await packChanges(before, await copyOf([before]))).toHaveLength(1024)
    const top = await scratch.apply(
      tar({ name: './', type: '5', mtime: 1 }, { name: 'b/deep/file', content: 'life', mtime: 3 }),
    )
    const changed = read(await packChanges(before, await copyOf([top, before])))
    // The directories above it come along, as other tools write them.
    expect(changed.map(({ name }) => name.toString())).toEqual(['b/', 'b/deep/', 'b/deep/file'])
  })
})
