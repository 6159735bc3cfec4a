import { defineConfig } from 'tsup'

const library = [
  'src/index.ts',
  'src/image/index.ts',
  'src/content/index.ts',
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
  // What only our own parts call is not in the declarations.
  dts: { entry: library, compilerOptions: { stripInternal: true } },
  // Errors are recognised across copies by the names of their classes.
  keepNames: true,
  removeNodeProtocol: false,
  silent: true,
} as const

const config: ReturnType<typeof defineConfig> = defineConfig([
  { ...shared, format: 'esm', entry: library },
  {
    ...shared,
    format: 'cjs',
    entry: [...library, 'src/cli/library.ts'],
    // It has no CommonJS build, and require() of an ES module needs Node 22.12.
    noExternal: ['node-fetch'],
    // Has rollup write the chunks; tsup's other way to split CommonJS rewrites classes and `?.` for old engines.
    treeshake: true,
    // For createRequire, which takes both.
    define: { 'import.meta.url': '__filename' },
  },
  {
    // The command line in one file, in the format that Node starts fastest: it is run once a container.
    ...shared,
    format: 'cjs',
    entry: ['src/cli/main.ts', 'src/cli/command-line.ts'],
    outDir: 'dist/cli',
    splitting: false,
    dts: false,
    keepNames: false,
    define: { 'import.meta.url': '__filename' },
    external: ['./library.ts'],
    esbuildOptions(options) {
      options.minify = true
      options.supported = { 'dynamic-import': false }
    },
  },
])

export default config
