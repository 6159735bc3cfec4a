import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { tar } from '../layer/support/tar.ts'
import { busyboxImage, cannotRunAsRoot } from './support/busybox.ts'
import { Sandbox } from './support/sandbox.ts'

describe.skipIf(cannotRunAsRoot)(`an image of very many layers (${cannotRunAsRoot ?? 'really'})`, () => {
  let sandbox: Sandbox
  beforeAll(() => {
    sandbox = new Sandbox()
  })
  afterAll(() => sandbox.remove())

  it.each([130, 400])('runs with %d of them', { timeout: 240_000 }, async (count) => {
    const layers = Array.from({ length: count - 1 }, (_, n) => tar({ name: `layer-${n}`, content: '' }))
    await sandbox.put('busybox', busyboxImage({ layers }))
    const script = 'ls / | grep -c ^layer-; touch /layer-0 && rm /layer-7 && ls / | grep -c ^layer-'
    expect((await sandbox.sh(script)).stdout).toBe(`${count - 1}\n${count - 2}\n`)
  })
})

describe.skipIf(cannotRunAsRoot)(`what a container writes (${cannotRunAsRoot ?? 'really'})`, () => {
  it('is not put on the disk for one that dies with its process, but for one that outlives it', async () => {
    const sandbox = new Sandbox()
    try {
      await sandbox.prepare()
      const root = 'grep " / / " /proc/self/mountinfo'
      expect((await sandbox.sh(root)).stdout).toMatch(/ - overlay .*volatile/)
      expect((await sandbox.sh(root, { detach: true })).stdout).not.toContain('volatile')
    } finally {
      sandbox.remove()
    }
  })
})
