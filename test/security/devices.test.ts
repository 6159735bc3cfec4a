import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { expect, it } from 'vitest'
import { busyboxImage } from '../engine/support/busybox.ts'
import { tar } from '../layer/support/tar.ts'
import { engineAttack, Racer } from './support.ts'

// A container may make devices, and may not open them. Whoever opens one for it, on the host, starts it: a watchdog ends the host.
engineAttack('devices and fifos in the place of files', (sandbox) => {
  it('that are account files are not opened', async () => {
    const script = `rm /etc/passwd; mkfifo /etc/passwd
      (echo root:x:0:0 >/etc/passwd; touch /opened) &
      echo ready; exec sleep 1000`
    await using box = await sandbox().run(['sh', '-c', script])
    for await (const chunk of box.stdout) if (String(chunk).includes('ready')) break
    const code = 'ERR_OCI_NOT_FOUND'
    await expect(box.exec(['id'], { user: 'user' })).rejects.toMatchObject({ code })
    // The shell that waits for a reader still waits.
    expect((await box.exec(['test', '-e', '/opened'])).exitCode).toBe(1)
    await box.exec(['sh', '-c', 'rm /etc/passwd; mknod /etc/passwd c 240 99'])
    await expect(box.exec(['id'], { user: 'user' })).rejects.toMatchObject({ code })
  })

  it.each(['copied', 'exported'])('that come and go while files of a volume are %s are not opened', async (read) => {
    const exported = async (): Promise<void> => {
      for await (const _ of await sandbox().engine.volumes.export(read));
    }
    const mounts = [{ type: 'volume', source: read, target: '/volume' }] as const
    await using box = await sandbox().run(['sleep', '1000'], { mounts })
    const volume = (await sandbox().engine.store()).volumes.directoryOf(read)
    writeFileSync(join(volume, 'file'), 'content')
    // No driver has this number: to open it is ENXIO, and not to be allowed to EACCES.
    execFileSync('mknod', [join(volume, 'device'), 'c', '240', '99'])
    const nowhere = (): Writable => new Writable({ write: (_, __, done) => done() })
    await using _ = Racer.exchange(join(volume, 'file'), join(volume, 'device'))
    const errors = new Set<string>()
    for (let round = 0; round < 60; round++) {
      const reading = read === 'copied' ? box.copyOut('/volume/.', nowhere()) : exported()
      await reading.catch((error: { errnoName?: string }) => errors.add(error.errnoName ?? String(error)))
    }
    expect([...errors].filter((name) => name !== 'EACCES')).toEqual([])
  })

  it.each([true, false])('that lie among files are copied as what they are, while it runs: %s', async (running) => {
    const script = `mknod /tmp/device c 240 99; mkfifo /tmp/fifo; ${running ? 'exec sleep 1000' : 'true'}`
    await using box = await sandbox().run(['sh', '-c', script])
    if (running) await box.exec(['sh', '-c', 'until [ -p /tmp/fifo ]; do sleep 0.01; done'], { check: true })
    else await box.exited
    const archive = spawn('tar', ['-tv'], { stdio: ['pipe', 'pipe', 'inherit'] })
    const listed: string[] = []
    archive.stdout.on('data', (chunk: Buffer) => listed.push(String(chunk)))
    const ended = once(archive, 'close')
    await box.copyOut('/tmp/.', archive.stdin)
    await ended
    expect(listed.join('')).toMatch(/^c.* 240,99 .*device$/m)
    expect(listed.join('')).toMatch(/^p.*fifo$/m)
  })

  it('that an image brings are none in a user namespace', async () => {
    const zero = { name: 'zero', type: '3', device: [1, 5] as const, mode: 0o666 }
    await sandbox().put('zero', busyboxImage({ layers: [tar(zero)] }))
    const mapped = [{ containerID: 0, hostID: 200_000, size: 65_536 }]
    await using box = await sandbox().engine.run('zero', {
      command: ['sleep', '1000'],
      pull: 'never',
      cgroupsPath: sandbox().cgroup(),
      userNamespace: { uidMappings: mapped, gidMappings: mapped },
    })
    expect(await box.exec(['sh', '-c', 'head -c 4 /zero; head -c 4 /dev/zero | wc -c'])).toMatchObject({
      stdout: '4\n',
      stderr: expect.stringContaining('Permission denied'),
    })
  })
})
