import { PassThrough, Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type Container, NotFoundError } from '../../src/index.ts'
import { tar } from '../layer/support/tar.ts'
import { busyboxImage, cannotRunAsRoot } from './support/busybox.ts'
import { Sandbox } from './support/sandbox.ts'

const layer = tar({ name: 'big', content: 'b'.repeat(5_000_000) }, { name: 'dir/file', content: 'x' })

describe.skipIf(cannotRunAsRoot)(`archives of a container (${cannotRunAsRoot ?? 'nothing is left of them'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.prepare()
    await sandbox.put('big', busyboxImage({ layers: [layer] }))
  })
  // No process, no descriptor.
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const boxed = async (state: string): Promise<Container> => {
    const command = state === 'running' ? ['sleep', '1000'] : ['true']
    const box = await sandbox.engine.run('big', { command, pull: 'never', cgroupsPath: sandbox.cgroup() })
    if (state === 'stopped') await box.exited
    return box
  }

  /** A sink that fails, or is aborted, with the first bytes. */
  const failing = (fail: (done: (error?: Error) => void) => void): Writable =>
    new Writable({ write: (_chunk, _encoding, done) => fail(done) })

  describe.each(['running', 'stopped'])('that is %s', (state) => {
    it('may be destroyed before they are read, or never be read', async () => {
      await using box = await boxed(state)
      const destroyed = await box.exportRootfs()
      destroyed.destroy()
      // It is held for as long as the test takes, and no longer matters.
      const unread = await box.exportRootfs()
      await box.remove()
      await sandbox.expectNothingLeft()
      expect([destroyed.destroyed, unread.destroyed]).toEqual([true, false])
    })

    it('may be destroyed while the first bytes are fetched, or in the middle of a file', async () => {
      await using box = await boxed(state)
      const fetching = await box.exportRootfs()
      fetching.read()
      fetching.destroy()
      const reading = await box.exportRootfs()
      let size = 0
      for await (const chunk of reading) {
        size += (chunk as Buffer).length
        if (size > 3_000_000) break
      }
      expect(reading.destroyed).toBe(true)
    })

    it('may be aborted, and may go where nothing can be written', async () => {
      await using box = await boxed(state)
      const stop = new AbortController()
      const reason = new Error('enough')
      const aborting = failing((done) => {
        stop.abort(reason)
        done()
      })
      await expect(pipeline(await box.exportRootfs(), aborting, { signal: stop.signal })).rejects.toThrow()
      await expect(
        box.copyOut(
          '/',
          failing((done) => done(reason)),
        ),
      ).rejects.toBe(reason)
      const gone = new PassThrough()
      gone.destroy()
      await expect(box.copyOut('/big', gone)).rejects.toThrow()
      const later = new AbortController()
      const slow = failing((done) => {
        later.abort(reason)
        done()
      })
      await expect(box.copyOut('/big', slow, { signal: later.signal })).rejects.toThrow()
    })
  })

  it('may be fetched by many at once, while files are put in', async () => {
    await using box = await boxed('stopped')
    const names = ['a', 'b', 'c', 'd']
    const sizes = names.map(async () => {
      let size = 0
      for await (const chunk of await box.exportRootfs()) size += (chunk as Buffer).length
      return size
    })
    const archives = names.map((name) => Readable.from([tar({ name, content: name })]))
    await Promise.all(archives.map((archive) => box.copyIn(archive, '/')))
    for (const size of await Promise.all(sizes)) expect(size).toBeGreaterThan(5_000_000)
    const changes: string[] = []
    for await (const { path } of box.diff()) changes.push(path)
    expect(changes).toEqual(expect.arrayContaining(names.map((name) => `/${name}`)))
  })

  it('are none of one that has been removed', async () => {
    const box = await boxed('stopped')
    await box.remove()
    await expect(box.exportRootfs()).rejects.toThrow(NotFoundError)
  })
})
