import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as zlib from 'node:zlib'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))
/** Installed by `scripts/prepare-tests.mjs`. */
const node22 = 'node_modules/.cache/oci-ts/node/node_modules/node-22/bin/node'

const skipped =
  typeof zlib.createZstdDecompress === 'function'
    ? 'skipped: this Node has zstd, and runs them itself'
    : existsSync(`${root}/${node22}`)
      ? undefined
      : 'skipped: run node scripts/prepare-tests.mjs to install Node 22'

/** Files with tests that need zstd. */
const files = [
  'test/content/archive/zstd.test.ts',
  'test/engine/archives.test.ts',
  'test/layer/compress.test.ts',
  'test/layer/decompress.test.ts',
]

interface Report {
  readonly testResults: readonly {
    readonly name: string
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[]
  }[]
}

describe.skipIf(skipped !== undefined)(`tests of zstd where this Node has none (${skipped ?? 'on Node 22'})`, () => {
  it('pass on Node 22', { timeout: 240_000 }, async () => {
    const directory = mkdtempSync(join(tmpdir(), 'oci-ts-zstd-'))
    try {
      const report = join(directory, 'report.json')
      const args = ['node_modules/vitest/vitest.mjs', 'run', ...files, '-t', 'zstd']
      const { code, text } = await run(node22, [...args, '--reporter=json', `--outputFile=${report}`])
      expect(code, text).toBe(0)
      const { testResults } = JSON.parse(readFileSync(report, 'utf8')) as Report
      const passed = testResults.filter(({ assertionResults }) =>
        assertionResults.some(({ fullName, status }) => status === 'passed' && fullName.includes('zstd')),
      )
      expect(passed.map(({ name }) => relative(root, name)).sort()).toEqual(files)
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })
})

/** Runs a program as if no test were running. */
function run(
  program: string,
  args: readonly string[],
): Promise<{ readonly code: number | null; readonly text: string }> {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('VITEST'))
  const child = spawn(program, args, {
    cwd: root,
    env: Object.fromEntries(inherited),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (part: string) => {
      text += part
    })
  }
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, text }))
  })
}
