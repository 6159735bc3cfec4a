import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { NotFoundError } from '../../src/errors.ts'
import { containerSpec, deleteContainer, listContainers, state } from '../../src/runtime/index.ts'
import { cannotRun, Sandbox, specOf } from './support.ts'

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
})
