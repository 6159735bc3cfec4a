import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    // ffi-rs crashes Node when worker threads open libraries, so every test file gets a process of its own.
    pool: 'forks',
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})
