import { expect, it } from 'vitest'
import type { Spec } from '../../src/bundle/index.ts'
import type { ExecProcess } from '../../src/runtime/index.ts'
import { dockerMounts, specOf } from '../runtime/support.ts'
import { attack, engineAttack } from './support.ts'

const circular: Record<string, unknown> = {}
circular.self = circular
const linux = specOf([]).linux

const broken: readonly (readonly [string, object])[] = [
  ['the type of a mount is a number', { mounts: [...dockerMounts, { destination: '/x', type: 2 ** 31, source: 'x' }] }],
  ['a destination is an object', { mounts: [...dockerMounts, { destination: {}, type: 'tmpfs' }] }],
  ['options are a text', { mounts: [{ destination: '/x', type: 'tmpfs', options: 'ro' }] }],
  ['an option is null', { mounts: [{ destination: '/x', type: 'tmpfs', options: [null] }] }],
  ['a limit is a text', { process: { rlimits: [{ type: 'RLIMIT_CORE', soft: 'x', hard: 1 }] } }],
  ['capabilities are a text', { process: { capabilities: { bounding: 'CAP_KILL' } } }],
  ['a masked path is a number', { linux: { ...linux, maskedPaths: [5] } }],
  ['namespaces are a text', { linux: { namespaces: 'pid' } }],
  ['rules of devices are an object', { linux: { ...linux, resources: { devices: {} } } }],
  ['it has no end', { annotations: circular }],
]

// A program without types gives a config that is none: that ends neither the program, nor leaves half a container.
attack('a config that nobody has validated', (sandbox) => {
  it.each(broken)('is an error, and nothing is left: %s', async (_, changes) => {
    const made = sandbox().create(specOf(['true'], changes as Parameters<typeof specOf>[1]))
    await expect(made).rejects.toMatchObject({ code: expect.stringMatching(/^ERR_OCI_/) })
  })

  it('is one for a further process, too', async () => {
    const container = await sandbox().create(specOf(['sleep', '1000']))
    await container.start()
    for (const broken of [{ args: 'true' }, { env: 5 }, { cwd: {} }, { rlimits: 'x' }, { capabilities: null }]) {
      const given = { args: ['true'], ...broken } as unknown as ExecProcess
      await expect(container.exec(given), JSON.stringify(broken)).rejects.toMatchObject({
        code: expect.stringMatching(/^ERR_OCI_/),
      })
    }
    await container.delete({ force: true })
  })
})

engineAttack('what `configure` makes of a config', (sandbox) => {
  it('is validated', async () => {
    const configure = (spec: Spec): Spec => ({ ...spec, hostname: 5 }) as unknown as Spec
    await expect(sandbox().run(['true'], { configure })).rejects.toMatchObject({
      code: 'ERR_OCI_SPEC',
      issues: [{ pointer: '/hostname', message: expect.any(String) }],
    })
  })
})
