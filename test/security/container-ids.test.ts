import { readdirSync } from 'node:fs'
import { expect, it } from 'vitest'
import { deleteContainer, state } from '../../src/runtime/index.ts'
import { specOf } from '../runtime/support.ts'
import { attack } from './support.ts'

// An id that is a path makes, or removes, a directory elsewhere.
attack('container ids', (sandbox) => {
  it.each(['', '.', '..', '../x', 'a/b', '/x', '-x', 'a\0b', 'a b', 'ä', 'x'.repeat(256)])('%j is none', async (id) => {
    const refused = { code: 'ERR_OCI_INVALID_ARGUMENT' }
    const before = readdirSync(sandbox().directory)
    await expect(sandbox().create(specOf(['true']), { id })).rejects.toMatchObject(refused)
    const options = { stateRoot: sandbox().stateRoot }
    await expect(state(id, options)).rejects.toMatchObject(refused)
    await expect(deleteContainer(id, { ...options, force: true })).rejects.toMatchObject(refused)
    expect(readdirSync(sandbox().directory)).toEqual(before)
  })

  it('what climbs out of a cgroup is refused', async () => {
    for (const cgroupsPath of ['/../x', '../../x', '/a/../../x']) {
      const made = sandbox().create(specOf(['true'], { linux: { ...specOf([]).linux, cgroupsPath } }))
      await expect(made, cgroupsPath).rejects.toMatchObject({ code: 'ERR_OCI_INVALID_ARGUMENT' })
    }
  })
})
