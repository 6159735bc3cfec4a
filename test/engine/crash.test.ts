import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createEngine, OciError } from '../../src/index.ts'
import { randomNumbers } from '../store/support/crash.ts'
import { hasTools } from '../store/support/tools.ts'
import { cannotRunAsRoot } from './support/busybox.ts'
import { archiveOfVolume, CrashScene } from './support/crash.ts'

describe.skipIf(cannotRunAsRoot)(`an engine's store (${cannotRunAsRoot ?? 'a real one'})`, () => {
  let scene: CrashScene
  beforeAll(async () => {
    scene = new CrashScene()
    await scene.open()
  })
  afterAll(() => scene[Symbol.asyncDispose]())

  it('loses nothing when a process is killed that pulls, commits, imports, exports, copies or prunes', {
    timeout: 240_000,
  }, async () => {
    const random = randomNumbers(4711)
    const steps = new Set<string>()
    for (let round = 0; round < 6; round += 1) {
      steps.add(await scene.killAfter(`random-${round}`, 1 + Math.floor(random() * 16), random() * 20))
    }
    // Otherwise the moments were not random enough to prove anything.
    expect(steps.size).toBeGreaterThan(3)
  })

  it('has all of it done when nobody is', { timeout: 60_000 }, async () => {
    const { root, child } = scene.start('whole')
    expect(await child.ended).toEqual({ code: 0, signal: null })
    expect(child.lines.at(-1)).toBe('done pruned')
    await scene.verify(root, child.lines, false)
  })

  it.skipIf(!hasTools('strace'))(
    'loses nothing at system calls that change something',
    { timeout: 240_000 },
    async () => {
      for (const [call, count] of [
        ['rename', 12],
        ['fchown', 20],
      ] as const) {
        expect(await scene.killAtCall(call, count), `${call} ${count}`).toBe(true)
      }
    },
  )

  it('is in order when the disk gets full while a container becomes an image, or is copied', {
    timeout: 240_000,
  }, async () => {
    const root = join(scene.sandbox.directory, 'full')
    mkdirSync(root)
    const mount = (...options: readonly string[]): unknown => execFileSync('mount', [...options, root])
    mount('-t', 'tmpfs', '-o', 'size=64m,mode=700', 'tmpfs')
    const random = randomNumbers(7)
    let full = 0
    try {
      execFileSync('cp', ['-a', `${scene.sandbox.root}/.`, root])
      const engine = createEngine({ root, state: scene.sandbox.state, store: { durability: 'none' } })
      const store = await engine.store()
      const box = await engine.attach('boxed')
      const { chainId } = await store.unpack(box.image.manifest, box.image.config)
      const works: readonly (() => Promise<unknown>)[] = [
        () => engine.commit(box, { name: 'full' }),
        () => engine.volumes.import('full', archiveOfVolume),
        () => store.createWritable(chainId, { id: 'full', rootfs: 'copy' }),
      ]
      for (let round = 0; round < 15; round += 1) {
        const used = Number(execFileSync('du', ['-sk', root], { encoding: 'utf8' }).split('\t')[0])
        mount('-o', `remount,size=${used + 8 + Math.floor(random() * (round % 3 === 2 ? 1000 : 60))}k`)
        const work = works[round % 3] as () => Promise<unknown>
        const error: unknown = await work().then(
          () => undefined,
          (reason: unknown) => reason,
        )
        full += error === undefined ? 0 : 1
        if (error !== undefined) expect(isFull(error), `round ${round}: ${String(error)}`).toBe(true)
        mount('-o', 'remount,size=64m')
        expect((await store.check()).findings, `round ${round}`).toEqual([])
        if (error !== undefined) await work()
        expect((await store.check()).findings, `round ${round}`).toEqual([])
        await store.removeWritable('full')
        await engine.volumes.remove('full', { force: true })
        await engine.prune({ containers: false })
      }
    } finally {
      execFileSync('umount', ['-l', root])
    }
    expect(full).toBeGreaterThan(3)
  })
})

/** Whether something failed for want of space, told in an error of this library. */
function isFull(error: unknown): boolean {
  if (!(error instanceof OciError)) return false
  for (let each: unknown = error; each instanceof Error; each = each.cause) {
    if ('errnoName' in each && each.errnoName === 'ENOSPC') return true
    if ('code' in each && each.code === 'ENOSPC') return true
  }
  return false
}
