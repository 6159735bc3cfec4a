import { closeSync, mkdirSync, openSync, readFileSync, rmdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { NotFoundError } from '../../src/errors.ts'
import { containerSpec, deleteContainer, listContainers, state } from '../../src/runtime/index.ts'
import { StateDirectory } from '../../src/runtime/state-directory.ts'
import { sweepOne } from '../../src/runtime/sweep.ts'
import { cannotRun, cgroupsOf, Sandbox, specOf } from './support.ts'

describe.skipIf(cannotRun)(`what is recorded (${cannotRun ?? 'of real containers'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  describe('a state of which a part is written', () => {
    it('is of a container that is not there yet, and goes with its maker', async () => {
      const container = await sandbox.create(specOf(['true']))
      const file = join(sandbox.stateRoot, container.id, 'state.json')
      const whole = readFileSync(file)
      for (const length of [0, 1, whole.length >> 1, whole.length - 1]) {
        writeFileSync(file, whole.subarray(0, length))
        await expect(state(container.id, sandbox)).rejects.toThrow(NotFoundError)
        await expect(containerSpec(container.id, sandbox)).rejects.toThrow(NotFoundError)
        expect(await listContainers(sandbox)).toEqual([])
      }
      writeFileSync(file, whole)
      expect((await state(container.id, sandbox)).pid).toBe(container.pid)
      await container.delete()
    })
  })

  describe('a container that is removed', () => {
    it('is there or not, and never one that is still being made', async () => {
      const told = new Set<string>()
      for (let round = 0; round < 20; round++) {
        const container = await sandbox.create(specOf(['true']))
        await container.start()
        await container.exited
        let isThere = true
        const looking = (async () => {
          while (isThere) {
            told.add(
              await state(container.id, sandbox).then(
                ({ status }) => status,
                (error) => error.code,
              ),
            )
          }
        })()
        await deleteContainer(container.id, sandbox)
        isThere = false
        await looking
        await container.delete()
      }
      expect(told).toContain('stopped')
      for (const each of told) expect(['ERR_OCI_NOT_FOUND', 'stopped']).toContain(each)
    })
  })

  describe('an id that another process has deleted, and used again', () => {
    it('is not touched by who had the one before', async () => {
      const before = await sandbox.create(specOf(['true']))
      await before.start()
      await before.exited
      const { id } = before
      await deleteContainer(id, sandbox)
      const again = await sandbox.create(specOf(['sleep', '1000']), { id })
      await again.start()
      await before.delete()
      expect(await state(id, sandbox)).toMatchObject({ status: 'running', pid: again.pid })
      expect(cgroupsOf(id).length).toBeGreaterThan(0)
      expect(await again.stats()).toMatchObject({})
      again.kill('SIGKILL')
      await again.exited
      await again.delete()
    })

    it('is deleted once, by whoever was first', async () => {
      const container = await sandbox.create(specOf(['true']))
      await container.start()
      await container.exited
      const results = await Promise.allSettled([1, 2, 3].map(() => deleteContainer(container.id, sandbox)))
      expect(results.some(({ status }) => status === 'fulfilled')).toBe(true)
      for (const each of results) {
        if (each.status === 'rejected') expect(each.reason).toBeInstanceOf(NotFoundError)
      }
      await container.delete()
    })

    it('is not locked by its old directory', () => {
      const path = join(sandbox.stateRoot, 'gone')
      mkdirSync(path)
      const fd = openSync(path, 'r')
      rmdirSync(path)
      try {
        expect(StateDirectory.tryLock(`/proc/self/fd/${fd}`)).toBeUndefined()
      } finally {
        closeSync(fd)
      }
    })
  })

  describe('what another version has written', () => {
    const facts = { id: 'foreign', bundle: '/', rootfs: '/', created: 1, outlive: false, cgroups: [] }
    const whole = { facts, config: {} }

    it.each([
      ['null', null],
      ['a list', []],
      ['facts alone', facts],
      ['no config', { facts }],
      ['no cgroups', { ...whole, facts: { ...facts, cgroups: undefined } }],
      ['one cgroup', { ...whole, facts: { ...facts, cgroups: '/sys/fs/cgroup' } }],
      ['a time as text', { ...whole, facts: { ...facts, created: 'today' } }],
      ['a path that is none', { ...whole, facts: { ...facts, rootfs: 1 } }],
    ])('is told, left as it is, and keeps nobody from the others: %s', async (_, value) => {
      const container = await sandbox.create(specOf(['true']))
      const id = sandbox.id()
      const directory = join(sandbox.stateRoot, id)
      mkdirSync(directory)
      writeFileSync(join(directory, 'state.json'), JSON.stringify(value))
      const told = { code: 'ERR_OCI_SPEC', hint: expect.stringContaining('version') }
      for (const ask of [state, containerSpec, deleteContainer])
        await expect(ask(id, sandbox)).rejects.toMatchObject(told)
      expect((await listContainers(sandbox)).map((each) => each.id)).toEqual([container.id])
      await expect(sandbox.create(specOf(['true']), { id })).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT' })
      expect(await sweepOne(sandbox.stateRoot, id)).toBe('kept')
      rmSync(directory, { recursive: true })
      await container.delete()
    })

    it('is told also of what links say', async () => {
      const id = sandbox.id()
      const directory = join(sandbox.stateRoot, id)
      mkdirSync(directory)
      writeFileSync(join(directory, 'state.json'), JSON.stringify(whole))
      for (const text of ['-1 2', '0 1', '1', '1 2 3', '1e3 5', '/etc/passwd']) {
        symlinkSync(text, join(directory, 'started'))
        await expect(state(id, sandbox)).rejects.toMatchObject({ code: 'ERR_OCI_SPEC' })
        rmSync(join(directory, 'started'))
      }
      rmSync(directory, { recursive: true })
    })
  })
})
