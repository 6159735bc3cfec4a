import { closeSync, openSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { cannotRun, Sandbox, specOf } from './support.ts'

describe.skipIf(cannotRun)(`a hostile image or config (${cannotRun ?? 'in real containers'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  it('can not have a directory of the host as working directory, by whatever descriptor (CVE-2024-21626)', async () => {
    const leaked = openSync('/', 'r')
    try {
      for (let fd = 0; fd < 40; fd++) {
        const outcome = await sandbox
          .run(specOf(['sh', '-c', 'ls .'], { process: { cwd: `/proc/self/fd/${fd}` } }))
          .catch((error: unknown) => error)
        expect(outcome, `descriptor ${fd}`).toMatchObject({ code: 'ERR_OCI_RUNTIME', pointer: '/process/cwd' })
      }
    } finally {
      closeSync(leaked)
    }
  })

  it('can not have it through a symlink of the image either', async () => {
    for (const fd of [3, 4, 5, 6, 7, 8]) {
      symlinkSync(`/proc/self/fd/${fd}`, join(sandbox.rootfs, `cwd-${fd}`))
      const outcome = await sandbox
        .run(specOf(['ls'], { process: { cwd: `/cwd-${fd}` } }))
        .catch((error: unknown) => error)
      expect(outcome, `descriptor ${fd}`).toMatchObject({ code: 'ERR_OCI_RUNTIME', pointer: '/process/cwd' })
    }
  })

  it('can not reach the program that made the container (CVE-2019-5736)', async () => {
    const self = specOf(['/proc/self/exe', 'sh', '-c', 'echo out'])
    const outcome = await sandbox.run(self).catch((error: unknown) => error)
    // The sealed program of the remote process runs without its socket: it ends, and is nobody's shell.
    expect(outcome).not.toMatchObject({ stdout: 'out\n' })
  })

  it('gets no descriptor of this process', async () => {
    const leaked = openSync('/etc/passwd', 'r')
    const { stdout } = await sandbox.run(specOf(['ls', '-l', '/proc/self/fd']))
    closeSync(leaked)
    expect(stdout).not.toContain('passwd')
    expect(stdout).not.toMatch(/memfd|socket|state/)
    expect(stdout.match(/ -> /g)).toHaveLength(3) // the directory itself is closed when it is looked at
  })

  it('has a cgroup of its own, which is not the root, and not one with processes in it', async () => {
    const resources = { pids: { limit: 10 } }
    for (const cgroupsPath of ['/', '', '.', './', '//']) {
      const made = sandbox.create(specOf(['true'], { linux: { cgroupsPath, resources } }))
      await expect(made).rejects.toMatchObject({ code: 'ERR_OCI_INVALID_ARGUMENT' })
    }
    const climbing = sandbox.create(specOf(['true'], { linux: { cgroupsPath: '/../../x', resources } }))
    await expect(climbing).rejects.toMatchObject({ code: 'ERR_OCI_INVALID_ARGUMENT' })

    const cgroupsPath = `/oci-ts-${sandbox.id()}`
    const first = await sandbox.create(specOf(['sleep', '1000'], { linux: { cgroupsPath, resources } }))
    await first.start()
    const second = sandbox.create(specOf(['true'], { linux: { cgroupsPath, resources } }))
    await expect(second).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT' })
    expect(first.state.status).toBe('running')
    await first.delete({ force: true })
  })

  it('can not cut a string by a NUL', async () => {
    await expect(sandbox.run(specOf(['sh', '-c', 'exit 0\0evil']))).rejects.toMatchObject({
      code: 'ERR_OCI_INVALID_ARGUMENT',
    })
  })
})
