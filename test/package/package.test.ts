import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { installPacked, output, type Project, root } from './project.ts'

interface Manifest {
  readonly version: string
  readonly exports: Readonly<Record<string, unknown>>
}

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest

/** Versions of Node: this one, and those that `scripts/prepare-tests.mjs` has installed. */
const nodes: readonly (readonly [string, string])[] = [
  [process.version, process.execPath],
  ...[22, 24, 26].map(
    (major) =>
      [`v${major}`, join(root, `node_modules/.cache/oci-ts/node/node_modules/node-${major}/bin/node`)] as const,
  ),
]

let project: Project

beforeAll(async () => {
  if (!existsSync(join(root, 'dist/index.js'))) throw new Error('There is no dist/: run `npm run build` first')
  project = await installPacked()
}, 120_000)

afterAll(() => project?.remove())

describe('the packed package', () => {
  it('holds what runs, its types, the schemas, the licence and the change log', () => {
    const unexpected = project.files.filter(
      (path) =>
        !/^(dist\/.*\.(js|cjs|d\.ts|d\.cts)|spec-schemas\/.*|(LICENSE|README\.md|CHANGELOG\.md|package\.json))$/.test(
          path,
        ),
    )
    expect(unexpected).toEqual([])
    for (const path of [
      'LICENSE',
      'README.md',
      'CHANGELOG.md',
      'dist/index.d.cts',
      'spec-schemas/image/manifest.json',
    ]) {
      expect(project.files).toContain(path)
    }
  })

  it('has no import() in its CommonJS files: Jest could not run it', () => {
    const files = project.files.filter((path) => path.endsWith('.cjs'))
    // A method may have that name: `volumes.import()`.
    const dynamic = files.filter((path) => /(?<![.\w])import\(/.test(readFileSync(join(root, path), 'utf8')))
    expect(files.length).toBeGreaterThan(0)
    expect(dynamic).toEqual([])
  })

  for (const [version, node] of nodes) {
    const missing = existsSync(node) ? '' : ' (skipped: run node scripts/prepare-tests.mjs to install it)'
    describe.skipIf(missing !== '')(`on Node ${version}${missing}`, () => {
      it.each(['use.mjs', 'use.cjs'])('is used by %s', async (program) => {
        const result = JSON.parse(await output(node, [program], project.directory)) as Record<string, unknown>
        expect(result).toMatchObject({
          reference: 'docker.io/library/alpine:3.20',
          digest: 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
          error: { name: 'InvalidReferenceError', code: 'ERR_OCI_INVALID_REFERENCE', isOciError: true },
          invalid: { name: 'SpecError', issues: true, isOciError: true },
          layers: 1,
          schema: 'object',
          version: manifest.version,
        })
        if (program === 'use.mjs') expect(result.across).toBe(true)
      })

      it('starts its command line', async () => {
        expect(await output(node, ['node_modules/oci-ts/dist/cli/main.cjs', '--help'], project.directory)).toMatch(
          /oci-ts/,
        )
      })
    })
  }

  it('exports the same names to import and to require', async () => {
    const [esm, cjs] = await Promise.all(
      ['use.mjs', 'use.cjs'].map(async (program) => {
        const result = JSON.parse(await output(process.execPath, [program], project.directory)) as { names: unknown }
        return result.names
      }),
    )
    expect(cjs).toEqual(esm)
  })

  it.each(['mts', 'cts'])('has types that compile in a strict .%s file with all libraries checked', async (ending) => {
    const subpaths = Object.keys(manifest.exports).filter((name) => !name.includes('*') && !name.endsWith('.json'))
    const imports = subpaths.map((name, i) => `import * as m${i} from 'oci-ts${name.slice(1)}'\nvoid m${i}`)
    await project.write(`types.${ending}`, [...imports, ''].join('\n'))
    await compile(`types.${ending}`)
  })

  it('does what the README shows, by its types', async () => {
    const readme = readFileSync(join(root, 'README.md'), 'utf8')
    const blocks = [...readme.matchAll(/^```ts\n(.*?)^```/gms)].map(([, code = '']) => code)
    expect(blocks.length).toBeGreaterThan(0)
    const names = blocks.map((_, i) => `readme-${i}.mts`)
    await Promise.all(blocks.map((code, i) => project.write(`readme-${i}.mts`, code)))
    await compile(...names)
  })
})

function compile(...files: readonly string[]): Promise<string> {
  const compiler = join(root, 'node_modules/typescript/bin/tsc')
  const options = '--noEmit --strict --exactOptionalPropertyTypes --target es2023 --lib es2023,esnext.disposable'
  const modules = ['--module', 'nodenext', '--types', 'node', '--typeRoots', join(root, 'node_modules/@types')]
  return output(process.execPath, [compiler, ...options.split(' '), ...modules, ...files], project.directory)
}
