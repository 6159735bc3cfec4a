import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, readdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Mount } from '../../src/bundle/index.ts'
import { allNamespaces, cannotRun, dockerMounts, Sandbox, specOf } from './support.ts'

describe.skipIf(cannotRun)(`tmpcopyup (${cannotRun ?? 'in real containers'})`, () => {
  let sandbox: Sandbox
  let tree: string
  beforeAll(async () => {
    sandbox = new Sandbox()
    for (const path of [sandbox.directory, sandbox.bundle]) chmodSync(path, 0o755)
    tree = join(sandbox.rootfs, 'tree')
    mkdirSync(join(tree, 'sub/deeper'), { recursive: true })
    writeFileSync(join(tree, 'file'), 'content\n')
    writeFileSync(join(tree, 'sub/deeper/large'), Buffer.alloc(300_000, 7))
    writeFileSync(join(tree, 'sub/empty'), '')
    symlinkSync('../../../../../../../../etc/hostname', join(tree, 'link'))
    execFileSync('mkfifo', [join(tree, 'fifo')])
    execFileSync('mknod', [join(tree, 'device'), 'c', '1', '5'])
    chownSync(join(tree, 'file'), 1000, 1001)
    chmodSync(join(tree, 'file'), 0o4750)
    chmodSync(join(tree, 'sub/deeper'), 0o1700)
    utimesSync(join(tree, 'file'), 1000, 1_234_567_890)
    utimesSync(join(tree, 'sub'), 1000, 1_234_567_891)
    chmodSync(tree, 0o711)
    chownSync(tree, 5, 6)
    mkdirSync(join(sandbox.rootfs, 'many'))
    for (let index = 0; index < 500; index++) writeFileSync(join(sandbox.rootfs, `many/file-${index}`), String(index))
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const tmpfs = (destination: string, ...options: readonly string[]): Mount => ({
    destination,
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['tmpcopyup', ...options],
  })
  const stat =
    'cd /tree; find . | sort | xargs stat -c "%n %F %a %u %g %s %t:%T" | grep -v directory; stat -c "%n %a %u %g" . sub sub/deeper; stat -c %Y file sub; readlink link'

  it('copies all that the directory has, as it is', async () => {
    const before = await sandbox.sh(stat)
    const mounts = [...dockerMounts, tmpfs('/tree')]
    expect(await sandbox.sh(stat, { mounts })).toBe(before)
    const script =
      'cat /tree/file; rm -r /tree/*; echo new >/tree/new; ls /tree; tail -c1 /tree/sub/deeper/large 2>/dev/null'
    const { stdout } = await sandbox.run(specOf(['sh', '-c', script], { mounts }))
    expect(stdout).toBe('content\nnew\n')
    expect(readdirSync(tree).sort()).toEqual(['device', 'fifo', 'file', 'link', 'sub'])
  })

  it('copies many files', async () => {
    const script = 'ls /many | wc -l; cat /many/file-499'
    expect(await sandbox.sh(script, { mounts: [...dockerMounts, tmpfs('/many')] })).toBe('500\n499')
  })

  it('leaves out what is mounted inside, and may be read-only', async () => {
    const mounts = [
      ...dockerMounts,
      tmpfs('/tree', 'ro', 'mode=755'),
      { destination: '/tree/sub', type: 'bind', source: join(sandbox.rootfs, 'etc'), options: ['bind'] },
    ]
    const script = 'ls /tree/sub; touch /tree/new 2>/dev/null || echo refused; cat /tree/file; stat -c %a /tree'
    expect(await sandbox.sh(script, { mounts })).toBe('group\npasswd\nrefused\ncontent\n755\n')
    expect(readdirSync(join(sandbox.rootfs, 'etc')).sort()).toEqual(['group', 'passwd'])
  })

  it('works in a user namespace', async () => {
    const mapped = [{ containerID: 0, hostID: 100_000, size: 65_536 }]
    const namespaces = [...allNamespaces, 'user' as const].map((type) => ({ type }))
    const changes = {
      mounts: [...dockerMounts, tmpfs('/many')],
      linux: { namespaces, uidMappings: mapped, gidMappings: mapped },
    }
    expect(await sandbox.sh('cat /many/file-7; echo more >/many/new; ls /many | wc -l', changes)).toBe('7501\n')
  })

  it('names the mount that is too small', async () => {
    const mounts = [...dockerMounts, tmpfs('/tree', 'size=64k')]
    await expect(sandbox.create(specOf(['true'], { mounts }))).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
      step: 'mount /tree',
      pointer: `/mounts/${dockerMounts.length}`,
      cause: expect.objectContaining({ errnoName: 'ENOSPC' }),
    })
  })

  it('is for tmpfs only', async () => {
    const mount = { ...tmpfs('/tree'), type: 'bind', source: '/etc' }
    const made = sandbox.create(specOf(['true'], { mounts: [...dockerMounts, mount] }))
    await expect(made).rejects.toMatchObject({ code: 'ERR_OCI_INVALID_ARGUMENT' })
  })
})
