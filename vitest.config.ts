import { availableParallelism } from 'node:os'
import { defineConfig, type ViteUserConfig } from 'vitest/config'
import { FlakyReporter } from './scripts/vitest-flaky.ts'
import { supportNode20 } from './scripts/vitest-on-node-20.ts'

supportNode20()

/** Minutes long: only `npm run test:long` runs them. */
const long = 'test/**/*.long.test.ts'

/** Tests that measure time, or use what was built: when the others are done, one file at a time. */
const alone = ['test/**/*.timing.test.ts', 'test/package/**/*.test.ts', 'test/examples/**/*.test.ts']

const runLong: boolean = process.env.OCI_TS_LONG === '1'

const config: ViteUserConfig = defineConfig({
  test: {
    // ffi-rs crashes Node when worker threads open libraries, so every test file gets a process of its own.
    pool: 'forks',
    // On two cores vitest would use one; most of our tests wait for a process or a socket.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    reporters: ['default', new FlakyReporter()],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: runLong
      ? [{ extends: true, test: { name: 'long', include: [long], fileParallelism: false, testTimeout: 1_800_000 } }]
      : [
          {
            extends: true,
            test: {
              name: 'modules',
              include: ['test/**/*.test.ts'],
              exclude: [long, ...alone],
              sequence: { groupOrder: 0 },
            },
          },
          {
            extends: true,
            test: { name: 'alone', include: alone, fileParallelism: false, sequence: { groupOrder: 1 } },
          },
        ],
  },
})

export default config
