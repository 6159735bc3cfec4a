import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { copy } from '../../src/content/copy.ts'
import { LayoutStore } from '../../src/content/layout.ts'
import { OciError } from '../../src/errors.ts'
import { openStore, type Store } from '../../src/store/index.ts'
import { isRoot } from '../layer/support/apply.ts'
import {
  crashRounds,
  Expectations,
  filesOfVolume,
  imageCount,
  images,
  killAtCall,
  makeSource,
  randomNumbers,
  startCrashWorker,
} from './support/crash.ts'
import type { TestImage } from './support/image.ts'
import { hasTools } from './support/tools.ts'

const scratch = mkdtempSync(join(tmpdir(), 'oci-ts-crash-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

const place = (name: string): string => {
  const path = join(scratch, name)
  mkdirSync(path)
  return path
}

describe.skipIf(process.platform !== 'linux')('a store (skipped on anything but Linux)', () => {
  it('loses nothing when processes are killed at random moments', { timeout: 240_000 }, async () => {
    const steps = await crashRounds(place('random'), 8, 20_241)
    // Otherwise the moments were not random enough to prove anything.
    expect(steps.size).toBeGreaterThan(2)
  })

  it('loses nothing while two processes prune and four pull', { timeout: 240_000 }, async () => {
    const directory = place('prune')
    const [root, source] = [join(directory, 'store'), join(directory, 'source')]
    await makeSource(source)
    const pruners = [1, 2].map((seed) => startCrashWorker(root, source, { seed, mode: 'prune' }))
    await Promise.all(pruners.map((pruner) => pruner.reaches(1)))
    const pullers = [3, 4, 5, 6].map((seed) => startCrashWorker(root, source, { seed, mode: 'pull' }))
    const expectations = new Expectations()
    try {
      for (const puller of pullers) {
        expect(await puller.ended).toEqual({ code: 0, signal: null })
        expectations.learn(puller.lines)
      }
      await Promise.all(pruners.map((pruner) => pruner.reaches(4)))
    } finally {
      for (const child of [...pruners, ...pullers]) child.process.kill('SIGKILL')
    }
    for (const pruner of pruners) {
      await pruner.ended
      expectations.learn(pruner.lines)
      expect(pruner.lines.length).toBeGreaterThan(3)
    }
    await expectations.verify(root, 'after pulling and pruning')
  })
})

describe.skipIf(!hasTools('strace'))('at system calls that change something (skipped without strace)', () => {
  it('a store loses nothing when its process is killed there', { timeout: 240_000 }, async () => {
    const directory = place('calls')
    await makeSource(join(directory, 'source'))
    const moments = [
      ['rename', 3],
      ['rename', 9],
      ['unlink', 4],
      ['mkdir', 10],
      ['mkdirat', 1],
    ] as const
    for (const [name, count] of moments) expect(await killAtCall(directory, name, count), name).toBe(true)
  })
})

const canMount = isRoot && spawnSync('unshare', ['-m', 'true']).status === 0

describe.skipIf(!canMount)('a store on a disk that gets full (skipped without root: needs a small tmpfs)', () => {
  it('loses nothing, wherever it happens', { timeout: 240_000 }, async () => {
    const directory = place('full')
    const [root, source] = [join(directory, 'store'), join(directory, 'source')]
    await makeSource(source)
    const from = await LayoutStore.open(source)
    mkdirSync(root)
    const mount = (...options: readonly string[]): unknown => execFileSync('mount', [...options, root])
    mount('-t', 'tmpfs', '-o', 'size=8m,mode=700', 'tmpfs')
    const random = randomNumbers(7)
    let full = 0
    try {
      const store = await openStore({ root, durability: 'none' })
      for (let round = 0; round < 12; round += 1) {
        const used = Number(execFileSync('du', ['-sk', root], { encoding: 'utf8' }).split('\t')[0])
        mount('-o', `remount,size=${used + 8 + Math.floor(random() * 500)}k`)
        const n = round % imageCount
        full += (await isFull(fillUp(store, from, n))) ? 1 : 0
        mount('-o', 'remount,size=8m')
        const context = `round ${round}`
        expect((await store.check()).findings, context).toEqual([])
        await fillUp(store, from, n)
        expect((await store.check()).findings, context).toEqual([])
        await store.removeImage(`image-${n}`)
        await store.volumes.remove(`volume-${n}`)
      }
    } finally {
      execFileSync('umount', ['-l', root])
    }
    expect(full).toBeGreaterThan(3)
  })
})

/** Pulls an image, unpacks it, and fills a volume. */
async function fillUp(store: Store, from: LayoutStore, n: number): Promise<void> {
  const { manifest, config } = images[n] as TestImage
  await copy(from, `image-${n}`, store, { as: `image-${n}` })
  await store.unpack(manifest, config)
  const name = `volume-${n}`
  await store.volumes.create(name)
  await store.volumes.fill(name, 'nobody', async (directory) => {
    for (const [file, content] of filesOfVolume(name)) writeFileSync(join(directory, file), content)
  })
}

/** Whether it fails for want of space; any other failure is thrown. */
async function isFull(work: Promise<void>): Promise<boolean> {
  try {
    await work
    return false
  } catch (error) {
    for (let each: unknown = error; each instanceof Error; each = each.cause) {
      if ('errnoName' in each && each.errnoName === 'ENOSPC') return true
      if (!(each instanceof OciError) && 'code' in each && each.code === 'ENOSPC') return true
    }
    throw error
  }
}
