import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { addMount, type RuntimeContainer, removeMount } from '../../src/runtime/index.ts'
import { cannotRun, hostMounts, Sandbox, specOf } from './support.ts'

describe.skipIf(cannotRun)(`mounts of a running container (${cannotRun ?? 'a real one'})`, () => {
  let sandbox: Sandbox
  let container: RuntimeContainer
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(async () => {
    await container.delete({ force: true })
    await sandbox.expectNothingLeft()
  })
  afterAll(() => sandbox.remove())

  const mountsOf = ({ pid }: RuntimeContainer): readonly string[] =>
    readFileSync(`/proc/${pid}/mountinfo`, 'utf8').split('\n')
  const seen = ({ pid }: RuntimeContainer, path: string): string =>
    readFileSync(join(`/proc/${pid}/root`, path), 'utf8')

  async function start(): Promise<void> {
    container = await sandbox.create(specOf(['sleep', '1000']))
    await container.start()
  }

  it('are added and taken away, by handle and by id, and the host has none of them', async () => {
    await start()
    const source = join(sandbox.directory, 'shared')
    mkdirSync(source, { recursive: true })
    writeFileSync(join(source, 'file'), 'of the host')
    const ofHost = (): readonly string[] => hostMounts(sandbox.directory, ' /mnt/a/b ', ' /mnt/t ', ' /one ')
    const before = ofHost()
    await container.addMount({ destination: '/mnt/a/b', type: 'bind', source, options: ['bind', 'ro', 'nosuid'] })
    expect(seen(container, '/mnt/a/b/file')).toBe('of the host')
    expect(mountsOf(container).find((line) => line.includes(' /mnt/a/b '))).toMatch(/ ro,nosuid/)
    await addMount(container.id, { destination: '/mnt/t', type: 'tmpfs', options: ['size=64k', 'noexec'] }, sandbox)
    expect(mountsOf(container).find((line) => line.includes(' /mnt/t '))).toMatch(/noexec.* - tmpfs .*size=64k/)
    await addMount(container.id, { destination: '/one', source: join(source, 'file'), options: ['bind'] }, sandbox)
    expect(seen(container, '/one')).toBe('of the host')
    expect(ofHost()).toEqual(before)
    for (const destination of ['/mnt/a/b', '/one']) await container.removeMount(destination)
    await removeMount(container.id, '/mnt/t', sandbox)
    expect(mountsOf(container).filter((line) => / \/(mnt|one)/.test(line))).toEqual([])
    await expect(removeMount(container.id, '/mnt/t', sandbox)).rejects.toMatchObject({ code: 'ERR_OCI_NOT_FOUND' })
    for (const name of ['mnt', 'one']) rmSync(join(sandbox.rootfs, name), { recursive: true })
  })

  it('stay inside of its root, wherever its links lead', async () => {
    await start()
    symlinkSync('/', join(sandbox.rootfs, 'up'))
    symlinkSync('../../../../../../../..', join(sandbox.rootfs, 'climb'))
    symlinkSync('/proc/sys', join(sandbox.rootfs, 'link'))
    const tmpfs = { type: 'tmpfs', options: ['size=64k'] }
    const ofHost = (): readonly string[] => hostMounts(sandbox.directory, '/in ', '/too ')
    const before = ofHost()
    await container.addMount({ ...tmpfs, destination: '/up/in' })
    await container.addMount({ ...tmpfs, destination: '/climb/too' })
    expect(mountsOf(container).filter((line) => / \/(in|too) /.test(line))).toHaveLength(2)
    expect(ofHost()).toEqual(before)
    await expect(container.addMount({ ...tmpfs, destination: '/link' })).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
    })
    for (const name of ['up', 'climb', 'link']) rmSync(join(sandbox.rootfs, name))
    for (const name of ['in', 'too']) await container.removeMount(`/${name}`)
    for (const name of ['in', 'too']) rmSync(join(sandbox.rootfs, name), { recursive: true })
  })

  it('never touch what protects it and the host', async () => {
    await start()
    for (const destination of ['/', '/proc', '/proc/keys', '/sys/firmware', '/dev/../proc/sys', 'relative']) {
      const invalid = { code: 'ERR_OCI_INVALID_ARGUMENT' }
      await expect(container.removeMount(destination)).rejects.toMatchObject(invalid)
      await expect(container.addMount({ destination, type: 'tmpfs' })).rejects.toMatchObject(invalid)
    }
    const proc = container.addMount({ destination: '/p', type: 'proc' })
    await expect(proc).rejects.toMatchObject({ code: 'ERR_OCI_UNSUPPORTED' })
  })

  it('fail with what can not be done, and leave nothing', async () => {
    await start()
    const missing = container.addMount({ destination: '/x', source: '/no/such/path', options: ['bind'] })
    await expect(missing).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', step: 'mount /x' })
    expect(mountsOf(container).filter((line) => line.includes(' /x '))).toEqual([])
    container.kill('KILL')
    await container.exited
    const late = container.addMount({ destination: '/x', type: 'tmpfs' })
    await expect(late).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT' })
  })
})
