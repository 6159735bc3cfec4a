import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Container, pull, run } from '../../src/index.ts'
import { type DebianRegistry, missingTools, startDebianRegistry } from './support/debian-registry.ts'
import { nothing, settledLeftovers } from './support/leftovers.ts'
import { Sandbox } from './support/sandbox.ts'

const missing = process.geteuid?.() === 0 ? missingTools : ['root']

describe.skipIf(missing.length > 0)(
  `a Debian image from docker-registry (needs ${missing.join(', ') || 'nothing more'})`,
  () => {
    let sandbox: Sandbox
    let registry: DebianRegistry | undefined
    const before = process.env.OCI_TS_ROOT
    beforeAll(async () => {
      sandbox = new Sandbox()
      registry = await startDebianRegistry(sandbox.directory)
      process.env.OCI_TS_ROOT = sandbox.root
    }, 240_000)
    afterAll(async () => {
      if (before === undefined) delete process.env.OCI_TS_ROOT
      else process.env.OCI_TS_ROOT = before
      await registry?.[Symbol.asyncDispose]()
      sandbox.remove()
    })

    it('is pulled and run in a few lines', { timeout: 120_000 }, async () => {
      const operation = pull(registry?.reference ?? '')
      const seen = new Set<string>()
      let last = 0
      for await (const progress of operation) {
        seen.add(progress.phase)
        expect(progress.transferred).toBeLessThanOrEqual(progress.total)
        if (progress.phase === 'unpack') last = progress.transferred / progress.total
      }
      expect([...seen]).toEqual(['fetch', 'unpack'])
      expect(last).toBe(1)
      const image = await operation
      const box = await run(image, {
        command: ['sh', '-c', 'id; hostname; cat /etc/debian_version; echo $$; exit 42'],
        memory: '64m',
        cpus: 0.5,
        pids: 64,
      })
      try {
        const lines: string[] = []
        for await (const { stream, text } of box.logs({ follow: true })) lines.push(`${stream} ${text}`)
        expect(lines).toEqual([
          'stdout uid=0(root) gid=0(root) groups=0(root)',
          `stdout ${box.id.slice(0, 12)}`,
          expect.stringMatching(/^stdout \d+\.\d+$/),
          'stdout 1',
        ])
        expect(await box.exited).toEqual({ code: 42, signal: undefined, oomKilled: false })
        expect(box.warnings).toEqual([])
      } finally {
        await box.remove()
      }
      expect(await settledLeftovers({ directory: sandbox.directory, mark: box.id })).toEqual(nothing)
    })

    it('is there already the second time, and runs by its reference', async () => {
      const reference = registry?.reference ?? ''
      const kinds = new Set<string>()
      const again = pull(reference)
      for await (const { kind } of again) kinds.add(kind)
      expect([...kinds]).toEqual(['found', 'skipped'])
      const box: Container = await run(reference, { command: ['perl', '-e', 'print "perl runs\\n"'], pull: 'never' })
      await box.exited
      const lines: string[] = []
      for await (const { text } of box.logs()) lines.push(text)
      expect(lines).toEqual(['perl runs'])
      await box.remove()
    })

    it('works: packages are asked for and configured, users are made', async () => {
      const script =
        'dpkg --version | head -n1 && useradd -m someone && su someone -c "id -un; pwd" && dpkg-reconfigure -f noninteractive base-passwd'
      const box = await run(registry?.reference ?? '', { command: ['bash', '-c', script] })
      expect(await box.exited).toMatchObject({ code: 0 })
      await box.remove()
    })
  },
)
