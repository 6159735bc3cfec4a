import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { addMount, removeMount } from '../../src/runtime/index.ts'
import { specOf } from '../runtime/support.ts'
import { attack, spoiledRootfs } from './support.ts'

// A container leads a mount that is taken away, or added, to what hides the host from it.
attack('a mount of a running container', (sandbox) => {
  it.each(['/data/sys', '/data/keys', '/data/self/../sys', '/top/proc', '/top/sys', '/devices/null', '/deep/data/sys'])(
    'is none that protects the host, as %s behind a symlink',
    async (destination) => {
      const rootfs = spoiledRootfs(sandbox())
      for (const [name, target] of [
        ['data', '/proc'],
        ['top', '/'],
        ['devices', 'dev'],
        ['deep', '../../..'],
      ] as const) {
        symlinkSync(target, join(rootfs, name))
      }
      const linux = { ...specOf([]).linux, maskedPaths: ['/proc/keys'], readonlyPaths: ['/proc/sys'] }
      const container = await sandbox().create(specOf(['sleep', '1000'], { root: { path: rootfs }, linux }))
      await container.start()
      const options = { stateRoot: sandbox().stateRoot }
      const mounts = async (): Promise<number | undefined> => {
        const args = ['sh', '-c', 'exit $(wc -l </proc/self/mountinfo)']
        return (await (await container.exec({ args })).exited).code
      }
      const before = await mounts()
      await expect(removeMount(container.id, destination, options)).rejects.toMatchObject({
        code: 'ERR_OCI_INVALID_ARGUMENT',
      })
      const added = addMount(container.id, { destination: '/data/tty', type: 'tmpfs', source: 'tmpfs' }, options)
      await expect(added).rejects.toMatchObject({ code: expect.stringMatching(/^ERR_OCI_/) })
      expect(await mounts()).toBe(before)
      await container.delete({ force: true })
    },
  )

  it('is taken away behind a symlink of the image that leads nowhere else', async () => {
    const rootfs = spoiledRootfs(sandbox())
    symlinkSync('/tmp', join(rootfs, 'link'))
    const container = await sandbox().create(specOf(['sleep', '1000'], { root: { path: rootfs } }))
    await container.start()
    const options = { stateRoot: sandbox().stateRoot }
    await addMount(container.id, { destination: '/link/here', type: 'tmpfs', source: 'tmpfs' }, options)
    await removeMount(container.id, '/link/here', options)
    await expect(removeMount(container.id, '/link/here', options)).rejects.toMatchObject({ code: 'ERR_OCI_NOT_FOUND' })
    await container.delete({ force: true })
  })
})
