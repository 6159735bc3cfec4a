import { describe, expect, it } from 'vitest'
import { cannotBoot, runInMachine } from './machine.ts'
import { noSystemd } from './systemd.ts'

const cannot = cannotBoot ?? noSystemd

const { results } =
  cannot === undefined
    ? await runInMachine({
        tests: ['runtime/systemd/host.test.ts'],
        programs: ['runtime/outcome.ts', 'cli/from-sources.ts'],
        systemd: true,
        timeout: 300_000,
      })
    : { results: [] }

describe.skipIf(cannot)(`a machine whose first process is systemd (${cannot ?? 'booted'})`, () => {
  it('runs all tests', () => {
    expect(results.map(({ state }) => state)).toEqual(Array.from({ length: 8 }, () => 'passed'))
  })

  for (const { name, state, error } of results) {
    it(name, () => expect([state, error]).toEqual(['passed', undefined]))
  }
})
