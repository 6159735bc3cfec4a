import { mkdirSync, readdirSync, readlinkSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { OciError } from '../../../src/errors.ts'
import { hasCode } from '../../../src/internal/file-error.ts'
import { applyLayer } from '../../../src/layer/apply/apply.ts'
import { ownership } from '../../../src/layer/apply/target.ts'
import { openTree } from '../../../src/layer/diff/open-tree.ts'
import { extractArchive } from '../../../src/layer/extract/extract.ts'
import { Scratch, stream } from '../support/apply.ts'
import { breakouts } from '../support/breakouts.ts'
import { packTree } from '../support/diff.ts'
import { read } from '../support/read.ts'
import { tar } from '../support/tar.ts'
import { tree } from '../support/tree.ts'

const scratch = new Scratch()
afterAll(() => scratch.clean())

/** A directory to unpack to, beside one that must stay as it is. */
interface Place {
  readonly target: string
  /** Fails unless nothing outside of the target was touched, and `outcome` is no surprise. */
  check(outcome: unknown): void
}

function place(): Place {
  const outside = scratch.directory()
  const [target, sentinel] = [join(outside, 'target'), join(outside, 'sentinel')]
  mkdirSync(target, { mode: 0o755 })
  mkdirSync(sentinel)
  writeFileSync(join(sentinel, 'file'), 'untouched')
  const before = tree(sentinel)
  return {
    target,
    check(outcome) {
      if (outcome instanceof Error) expect(outcome).toBeInstanceOf(OciError)
      expect(tree(sentinel)).toEqual(before)
      expect(readdirSync(outside).sort()).toEqual(['sentinel', 'target'])
      expect(readdirSync('/tmp')).not.toContain('oci-ts-evil')
      expect(readdirSync(scratch.path)).not.toContain('sentinel')
    },
  }
}

async function extract(archive: Buffer, directory: string): Promise<void> {
  const { userNamespace, singleOwner } = await ownership()
  const { process, close } = await openTree(directory).then((reader) => ({
    process: reader.process,
    close: () => reader.close(),
  }))
  try {
    const pieces = stream(archive) as AsyncIterable<Buffer>
    await extractArchive(pieces, process, { directory: '', userNamespace, singleOwner })
  } finally {
    await close()
  }
}

describe(`a corpus of ${Object.keys(breakouts).length} hostile archives`, () => {
  it('has at least 60', () => {
    expect(Object.keys(breakouts).length).toBeGreaterThanOrEqual(60)
  })

  it.each(Object.entries(breakouts))('with %s as a layer touches nothing outside', async (_, entries) => {
    const { target, check } = place()
    const failure = await applyLayer(stream(tar(...entries)), target).catch((error: unknown) => error)
    check(failure)
    if (failure instanceof Error) expect(failure).toMatchObject({ subject: expect.any(String) })
  })

  it.each(Object.entries(breakouts))(
    'with %s, put into a tree that is in use, touches nothing outside',
    async (_, entries) => {
      const { target, check } = place()
      // Names of the corpus lead out already.
      for (const name of ['l', 'd', 'p']) symlinkSync('../sentinel', join(target, name))
      symlinkSync('../sentinel/file', join(target, 'h'))
      check(await extract(tar(...entries), target).catch((error: unknown) => error))
    },
  )
})

function removeUnlessBusy(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true })
  } catch (error) {
    if (!hasCode(error, 'ENOTEMPTY')) throw error
  }
}

describe('somebody who swaps directories and links meanwhile', () => {
  /** Until `work` has ended `rounds` times, swaps a directory of the target for a link out of it, over and over. */
  async function race(target: string, rounds: number, work: () => Promise<unknown>): Promise<readonly unknown[]> {
    const [directory, aside] = [join(target, 'd'), join(target, 'aside')]
    let isOver = false
    const swapping = (async () => {
      while (!isOver) {
        try {
          renameSync(directory, aside)
          symlinkSync('../sentinel', directory)
          await new Promise((resolve) => setImmediate(resolve))
          rmSync(directory)
          renameSync(aside, directory)
        } catch {
          // The other one has replaced it, and may be at it again.
          removeUnlessBusy(directory)
          removeUnlessBusy(aside)
          mkdirSync(join(directory, 'sub'), { recursive: true })
        }
        await new Promise((resolve) => setImmediate(resolve))
      }
    })()
    const outcomes: unknown[] = []
    for (let round = 0; round < rounds; round += 1) outcomes.push(await work().catch((error: unknown) => error))
    isOver = true
    await swapping
    return outcomes
  }

  it('gains nothing while an archive is put into a tree', async () => {
    const { target, check } = place()
    mkdirSync(join(target, 'd/sub'), { recursive: true })
    const archive = tar(
      { name: 'd/file', content: 'evil', mode: 0o4777 },
      { name: 'd/sub/', type: '5', mode: 0o777, uid: 1000 },
      { name: 'd/sub/file', content: 'x'.repeat(200_000) },
      { name: 'd/hard', type: '1', linkName: 'd/file' },
    )
    const outcomes = await race(target, 60, () => extract(archive, target))
    for (const outcome of outcomes) check(outcome)
    expect(outcomes).toContain(undefined)
  })

  it('gains nothing while a layer is applied', async () => {
    const { target, check } = place()
    mkdirSync(join(target, 'd/sub'), { recursive: true })
    const archive = tar(...Array.from({ length: 50 }, (_, i) => ({ name: `e/${i}/file`, content: 'x' })), {
      name: 'd/file',
      content: 'evil',
    })
    const outcomes = await race(target, 40, async () => {
      rmSync(join(target, 'e'), { recursive: true, force: true })
      await applyLayer(stream(archive), target)
    })
    for (const outcome of outcomes) check(outcome)
  })

  it('gains nothing while a tree is read', async () => {
    const { target, check } = place()
    mkdirSync(join(target, 'd/sub'), { recursive: true })
    writeFileSync(join(target, 'd/sub/inside'), 'inside')
    const outcomes = await race(target, 150, async () =>
      read(await packTree(target)).map(({ name, content }) => `${name}: ${content}`),
    )
    for (const outcome of outcomes) {
      check(outcome)
      expect(String(outcome)).not.toContain('untouched')
      expect(String(outcome)).not.toContain('d/file')
    }
    expect(readlinkSync('/proc/self/cwd')).toBe(process.cwd())
  })
})
