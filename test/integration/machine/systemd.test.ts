import { describe, expect, it } from 'vitest'
import { cannotRunCriu, criuNeeds } from './criu.ts'
import { cannotBoot, runInMachine } from './machine.ts'
import { noSystemd } from './systemd.ts'

const cannot = cannotBoot ?? noSystemd

const { results } =
  cannot === undefined
    ? await runInMachine({
        tests: ['runtime/systemd/host.test.ts'],
        programs: ['runtime/outcome.ts', 'cli/from-sources.ts'],
        systemd: true,
        ...criuNeeds(),
        timeout: 300_000,
      })
    : { results: [] }

describe.skipIf(cannot)(`a machine whose first process is systemd (${cannot ?? 'booted'})`, () => {
  it('runs all tests', () => {
    const passed = results.filter(({ state }) => state === 'passed')
    expect(passed).toHaveLength(cannotRunCriu === undefined ? 9 : 8)
  })

  for (const { name, state, error } of results) {
    if (state !== 'skipped') it(name, () => expect([state, error]).toEqual(['passed', undefined]))
  }
})
