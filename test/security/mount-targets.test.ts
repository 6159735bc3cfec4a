import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { dockerMounts, specOf } from '../runtime/support.ts'
import { attack, bind, Racer, spoiledRootfs } from './support.ts'

// A mount below /dev or /sys that is not a file system of the kernel's is led into /proc by whoever filled it.
attack('mount targets', (sandbox) => {
  const without = (prefix: string) => dockerMounts.filter(({ destination }) => !destination.startsWith(prefix))
  const tmpfs = (destination: string) => ({ destination, type: 'tmpfs', source: 'tmpfs' })

  it.each([
    ['/dev of the image', '/dev/shm', () => [...without('/dev'), tmpfs('/dev/shm')]],
    ['/sys of the image', '/sys/shm', () => [...without('/sys'), tmpfs('/sys/shm')]],
    ['a volume on /dev', '/dev/shm', (volume: string) => [...without('/dev'), bind('/dev', volume), tmpfs('/dev/shm')]],
    [
      'a volume in /dev',
      '/dev/volume/shm',
      (volume: string) => [...dockerMounts, bind('/dev/volume', volume), tmpfs('/dev/volume/shm')],
    ],
  ])('of %s lead nowhere into /proc', async (_, destination, mountsOf) => {
    const rootfs = spoiledRootfs(sandbox())
    const volume = join(sandbox().directory, 'dev-volume')
    rmSync(volume, { recursive: true, force: true })
    mkdirSync(volume)
    symlinkSync('/proc/self/attr', join(volume, 'shm'))
    if (!destination.includes('volume')) symlinkSync('/proc/self/attr', join(rootfs, destination))
    const made = sandbox().create(specOf(['true'], { root: { path: rootfs }, mounts: mountsOf(volume) }))
    await expect(made).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
      message: expect.stringContaining('leads into /proc'),
    })
  })

  it('with what is below copied do not wait for a fifo that comes and goes', async () => {
    const volume = join(sandbox().directory, 'copied')
    mkdirSync(join(volume, 'sub'), { recursive: true })
    writeFileSync(join(volume, 'sub/file'), 'content')
    execFileSync('mkfifo', [join(volume, 'sub/fifo')])
    const mounts = [
      ...dockerMounts,
      bind('/volume', volume),
      { ...tmpfs('/volume/sub'), options: ['tmpcopyup', 'mode=755'] },
    ]
    await using _ = Racer.exchange(join(volume, 'sub/file'), join(volume, 'sub/fifo'))
    for (let round = 0; round < 30; round++) {
      const signal = AbortSignal.timeout(20_000)
      await sandbox()
        .run(specOf(['true'], { mounts }), { signal })
        .catch((error: unknown) => expect(error).toMatchObject({ code: 'ERR_OCI_RUNTIME' }))
    }
  })
})
