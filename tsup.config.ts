import { defineConfig } from 'tsup'

const library = [
  'src/index.ts',
  'src/image/index.ts',
  'src/distribution/index.ts',
  'src/bundle/index.ts',
  'src/runtime/index.ts',
  'src/store/index.ts',
  'src/registry/index.ts',
]

const shared = {
  target: 'node20',
  platform: 'node',
  // Chunks shared by the entry points: a class must be one class whichever subpath it came through.
  splitting: true,
  dts: { entry: library },
  // Errors are recognised across copies by the names of their classes.
  keepNames: true,
  silent: true,
} as const

const config: ReturnType<typeof defineConfig> = defineConfig([
  { ...shared, format: 'esm', entry: [...library, 'src/cli/main.ts'] },
  // node-fetch has no CommonJS build, and require() of an ES module needs Node 22.12: it is bundled here.
  // shims: import.meta.url, which loads ffi-rs on first use, has to mean something here too.
  { ...shared, format: 'cjs', entry: library, noExternal: ['node-fetch'], shims: true },
])

export default config
