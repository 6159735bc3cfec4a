import { watch } from 'node:fs'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Container } from '../../src/index.ts'
import { cannotRunAsRoot } from './support/busybox.ts'
import { Sandbox } from './support/sandbox.ts'

const busy = ['sh', '-c', 'while :; do :; done']

describe.skipIf(cannotRunAsRoot)(`a running container (${cannotRunAsRoot ?? 'a real one'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    // Node opens what it watches files with at the first use, and keeps it.
    watch('.').close()
    sandbox = new Sandbox()
    await sandbox.prepare()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  for (const detach of [false, true]) {
    const kind = detach ? 'detached' : 'attached'

    it(`tells what it uses, as docker stats does (${kind})`, async () => {
      await using box = await sandbox.run(busy, { memory: '64m', detach })
      const usage = await box.stats({ over: '200ms' })
      expect(usage.cpuPercent).toBeGreaterThan(1)
      expect(usage.cpuPercent).toBeLessThan(150)
      expect(usage.memoryLimit).toBe(64 << 20)
      expect(usage.memoryPercent).toBeCloseTo((usage.memoryUsage / (64 << 20)) * 100)
      expect(usage.pids).toBe(1)
      expect((await box.top()).map(({ command }) => command)).toEqual([busy])
    })

    it(`gets and loses mounts, and is what was asked for (${kind})`, async () => {
      await using box = await sandbox.run(['sleep', '1000'], { detach })
      await box.addMount({ destination: '/added', type: 'tmpfs', source: 'tmpfs', options: ['size=64k'] })
      expect((await box.exec(['grep', ' /added tmpfs ', '/proc/mounts'])).exitCode).toBe(0)
      await box.removeMount('/added')
      expect((await box.exec(['grep', ' /added tmpfs ', '/proc/mounts'])).exitCode).toBe(1)
      expect((await box.audit()).filter(({ severity }) => severity === 'weaker')).toEqual([])
      await expect(box.removeMount('/proc')).rejects.toMatchObject({ code: 'ERR_OCI_INVALID_ARGUMENT' })
    })

    it(`stands still while it is paused (${kind})`, async () => {
      await using box = await sandbox.run(busy, { detach })
      await box.pause()
      expect((await box.stats({ over: '100ms' })).cpuPercent).toBe(0)
      await expect(box.pause()).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT' })
      await box.resume()
      await eventually(async () => (await box.stats({ over: '20ms' })).cpuPercent > 0)
    })

    it(`takes other limits (${kind})`, async () => {
      await using box = await sandbox.run(busy, { memory: '64m', detach })
      await box.update({ memory: '128m', pids: 50, cpus: 0.5 })
      const { details } = await box.stats()
      expect([details.memory.limit, details.pids.limit]).toEqual([128 << 20, 50])
      await expect(box.update({ pids: 0 })).rejects.toMatchObject({ code: 'ERR_OCI_INVALID_ARGUMENT' })
    })
  }

  it('is measured until it ends', async () => {
    await using box = await sandbox.run(['sh', '-c', 'read x'], { stdin: 'pipe' })
    const samples: number[] = []
    for await (const { pids } of box.watchStats({ interval: '20ms' })) {
      samples.push(pids)
      if (samples.length === 3) box.stdin?.end('\n')
    }
    expect(samples.slice(0, 3)).toEqual([1, 1, 1])
    await expect(box.stats()).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT' })
  })

  it('tells of pauses', async () => {
    await using box: Container = await sandbox.run(busy)
    const seen: string[] = []
    const reading = (async () => {
      for await (const { type } of box.events()) seen.push(type)
    })()
    await eventually(async () => {
      await box.pause()
      await box.resume()
      return seen.includes('paused') || seen.includes('resumed')
    })
    await box.kill()
    await reading
  })
})

async function eventually(condition: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await condition()); tries++) if (tries > 500) throw new Error('waited in vain')
}
