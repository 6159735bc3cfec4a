import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { SyscallHandlers, WaitingSyscall } from '../../src/index.ts'
import { cannotRunAsRoot } from './support/busybox.ts'
import { Sandbox } from './support/sandbox.ts'

describe.skipIf(cannotRunAsRoot)(`onSyscall of an image's container (${cannotRunAsRoot ?? 'real ones'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.prepare()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const refuse = async ({ name, args, readString }: WaitingSyscall): Promise<'continue' | { errno: 'EDQUOT' }> =>
    (await readString(args[name === 'mkdirat' ? 1 : 0] as bigint)).endsWith('/no') ? { errno: 'EDQUOT' } : 'continue'
  const onSyscall: SyscallHandlers = { mkdir: refuse, mkdirat: refuse }

  it("answers beside Docker's profile, also for what exec runs", async () => {
    const box = await sandbox.run(['sleep', '1000'], { onSyscall })
    const ran = await box.exec(['sh', '-c', 'mkdir /tmp/no; mkdir /tmp/yes && ls /tmp; unshare -U true || echo kept'])
    expect(ran.stdout).toBe('yes\nkept\n')
    expect(ran.stderr).toMatch(/\/tmp\/no'?: Disk quota exceeded/)
    await box.remove()
  })

  it('is not for containers that go on without this process', async () => {
    const refused = { code: 'ERR_OCI_INVALID_ARGUMENT', subject: 'detach' }
    await expect(sandbox.run(['true'], { onSyscall, detach: true })).rejects.toMatchObject(refused)
  })

  it('gives its functions as much time as they are said to have', async () => {
    const invalid = { code: 'ERR_OCI_INVALID_ARGUMENT' }
    await expect(sandbox.run(['true'], { onSyscall, syscallTimeout: 'soon' as '1s' })).rejects.toMatchObject(invalid)
    const box = await sandbox.run(['sh', '-c', 'mkdir /tmp/x || exit 9'], {
      onSyscall: Object.fromEntries(['mkdir', 'mkdirat'].map((name) => [name, () => new Promise<never>(() => {})])),
      syscallTimeout: '50ms',
    })
    expect((await box.exited).code).toBe(9)
    await box.remove()
  })
})
