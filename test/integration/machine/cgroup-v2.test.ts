import { describe, expect, it } from 'vitest'
import { cannotBoot, runInMachine } from './machine.ts'

/** What is run where cgroup version 2 is alone; what runs here as well is run there once more. */
const tests = [
  'runtime/cgroups/device-kernel.test.ts',
  'runtime/cgroups/delegation.test.ts',
  'runtime/defaults.test.ts',
  'runtime/isolation.test.ts',
  'runtime/limits.test.ts',
  'runtime/mounts.test.ts',
  'runtime/terminal.test.ts',
  'runtime/verbs.test.ts',
]

const { results } =
  cannotBoot === undefined
    ? await runInMachine({ tests, programs: ['runtime/outcome.ts'], timeout: 300_000 })
    : { results: [] }

describe.skipIf(cannotBoot)(`a machine with cgroup version 2 alone (${cannotBoot ?? 'booted'})`, () => {
  it('runs all test files', () => {
    const passed = new Set(results.filter(({ state }) => state === 'passed').map(({ file }) => file))
    expect([...passed]).toEqual(tests)
  })

  for (const { name, state, error } of results) {
    if (state !== 'skipped') it(name, () => expect([state, error]).toEqual(['passed', undefined]))
  }
})
