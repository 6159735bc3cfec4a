import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { removeTree } from '../../src/store/remove-tree.ts'

describe('a tree that is removed', () => {
  let directory: string
  let tree: string
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'oci-ts-remove-'))
    tree = join(directory, 'tree')
  })
  afterEach(() => rmSync(directory, { recursive: true }))

  it.each([0, 3, 15, 16, 17, 100])('is gone, with %i files in each of its directories', async (count) => {
    for (const path of ['', 'a', 'a/b', 'c']) {
      mkdirSync(join(tree, path), { recursive: true })
      for (let n = 0; n < count; n++) writeFileSync(join(tree, path, `file ${n}`), '')
    }
    await removeTree(tree)
    expect(existsSync(tree)).toBe(false)
  })

  it('has links that are not followed', async () => {
    const outside = join(directory, 'outside')
    mkdirSync(outside)
    writeFileSync(join(outside, 'kept'), '')
    mkdirSync(tree)
    symlinkSync(outside, join(tree, 'link'))
    symlinkSync('/nowhere', join(tree, 'broken'))
    await removeTree(tree)
    expect(existsSync(tree)).toBe(false)
    expect(readdirSync(outside)).toEqual(['kept'])
  })

  it('may have names that are no text', async () => {
    mkdirSync(tree)
    writeFileSync(Buffer.concat([Buffer.from(`${tree}/`), Buffer.from([0xff, 0xfe])]), '')
    await removeTree(tree)
    expect(existsSync(tree)).toBe(false)
  })

  it('need not be there, and may be a file', async () => {
    await removeTree(tree)
    writeFileSync(tree, '')
    await removeTree(tree)
    expect(existsSync(tree)).toBe(false)
  })
})
