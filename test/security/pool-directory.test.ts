import { mkdirSync, readdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { createPool } from '../../src/runtime/index.ts'
import { allNamespaces, specOf } from '../runtime/support.ts'
import { attack, spoiledRootfs } from './support.ts'

// A link of the image to a process of the host is followed when the working directory of a run is made.
attack('the working directory of a run in a pool', (sandbox) => {
  it('is not made on the host, where processes of it are to be seen', async () => {
    const { directory, bundle, stateRoot } = sandbox()
    const outside = join(directory, 'outside')
    mkdirSync(outside)
    const rootfs = spoiledRootfs(sandbox())
    symlinkSync(`/proc/${process.pid}/root${outside}`, join(rootfs, 'made-by-image'))
    const namespaces = allNamespaces.filter((type) => type !== 'pid').map((type) => ({ type }))
    const spec = specOf(['true'], { root: { path: rootfs }, linux: { namespaces } })
    await using pool = createPool({ size: 1, spec, bundle, stateRoot, id: sandbox().id() })
    await expect(pool.run({ args: ['true'], cwd: '/made-by-image/made/deep' })).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
    })
    expect(readdirSync(outside)).toEqual([])
    const container = await pool.run({ args: ['sh', '-c', 'test $(pwd) = /root/made/deep'], cwd: '/root/made/deep' })
    expect((await container.exited).code).toBe(0)
    await container.delete({ force: true })
  })
})
