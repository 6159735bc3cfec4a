import { mkdirSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { busyboxImage } from '../engine/support/busybox.ts'
import { tar } from '../layer/support/tar.ts'
import { tree } from '../layer/support/tree.ts'
import { engineAttack } from './support.ts'

// VFS_CAP_REVISION_2 with CAP_SYS_ADMIN, effective.
const capability = Buffer.from('0100000200002000000000000000000000000000', 'hex')

// What is copied out of a container gives rights on the host: a program that runs as root, a disk that all may read.
engineAttack('what is copied out of a container', (sandbox) => {
  const layer = tar(
    { name: 'app/', type: '5', mode: 0o755 },
    { name: 'app/capable', content: 'x', mode: 0o755, pax: { 'SCHILY.xattr.security.capability': capability } },
  )
  const script = `cp /bin/busybox /app/user; chown 1000:1000 /app/user; chmod 6755 /app/user
    cp /bin/busybox /app/root; chmod 4755 /app/root
    mknod -m 666 /app/disk b 7 250; ln /app/disk /app/same; mkdir -m 3777 /app/shared; echo ready; exec sleep 1000`
  it.each([false, true])('has no rights of others, unless its owners are kept: %s', async (archive) => {
    await sandbox().put('rights', busyboxImage({ layers: [layer] }))
    const options = { command: ['sh', '-c', script], pull: 'never', cgroupsPath: sandbox().cgroup() } as const
    await using box = await sandbox().engine.run('rights', options)
    for await (const chunk of box.stdout) if (String(chunk).includes('ready')) break
    const place = join(sandbox().directory, `rights-${archive}`)
    mkdirSync(place)
    await box.copyOut('/app/.', place, { archive })
    const found = (name: string): string => {
      const { mode, uid } = statSync(join(place, name))
      return `${(mode & 0o7777).toString(8)} ${uid}`
    }
    const programs = ['user', 'root', 'shared'].map(found)
    if (archive) {
      expect(readdirSync(place).sort()).toEqual(['capable', 'disk', 'root', 'same', 'shared', 'user'])
      expect(programs).toEqual(['6755 1000', '4755 0', '3777 0'])
      expect(tree(place).capable?.xattrs).toHaveProperty(['security.capability'])
    } else {
      expect(readdirSync(place).sort()).toEqual(['capable', 'root', 'shared', 'user'])
      expect(programs).toEqual(['755 0', '755 0', '3777 0'])
      expect(tree(place).capable?.xattrs).not.toHaveProperty(['security.capability'])
    }
  })
})
