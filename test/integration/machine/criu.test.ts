import { describe, expect, it } from 'vitest'
import { cannotRunCriu, criuNeeds } from './criu.ts'
import { runInMachine } from './machine.ts'

const { results } =
  cannotRunCriu === undefined
    ? await runInMachine({
        tests: ['runtime/criu.test.ts'],
        programs: ['cli/from-sources.ts'],
        ...criuNeeds(),
        timeout: 240_000,
      })
    : { results: [] }

describe.skipIf(cannotRunCriu)(`CRIU in a machine with a kernel that it knows (${cannotRunCriu ?? 'booted'})`, () => {
  it('saves and restores containers there', () => {
    const passed = results.filter(({ state }) => state === 'passed').map(({ name }) => name)
    expect(passed.filter((name) => name.includes('which works'))).toHaveLength(4)
  })

  for (const { name, state, error } of results) {
    if (state !== 'skipped') it(name, () => expect([state, error]).toEqual(['passed', undefined]))
  }
})
