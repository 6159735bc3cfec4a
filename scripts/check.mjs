// Every check that runs no container: format, lint, types by both compilers, architecture, the packed
// tarball, the documentation. Two at a time; each prints one line, and all it said when it failed.
import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const packed = mkdtempSync(join(tmpdir(), 'oci-ts-check-'))
const failed = []

/** Runs `node <program of node_modules> …args`, or npm; true when it ends with 0. */
async function check(title, program, ...args) {
  const started = performance.now()
  const [command, argv] =
    program === 'npm' ? ['npm', args] : [process.execPath, [join('node_modules', program), ...args]]
  const child = spawn(command, argv, {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1', FORCE_COLOR: '0' },
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8')
    stream.on('data', (text) => {
      output += text
    })
  }
  const code = await new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  })
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  console.log(`${code === 0 ? 'ok    ' : 'FAILED'} ${title} (${seconds} s)`)
  if (code === 0) return true
  console.log(output.trimEnd())
  failed.push(title)
  return false
}

async function checkPackage() {
  const pack = ['pack', '--ignore-scripts', '--silent', '--pack-destination', packed]
  if (!(await check('pack', 'npm', ...pack))) return
  const tarball = join(packed, readdirSync(packed).find((name) => name.endsWith('.tgz')) ?? '')
  await check('publint', 'publint/src/cli.js', tarball, '--strict')
  // node10 knows no `exports`; every Node that can run this package does.
  await check(
    'are the types wrong',
    '@arethetypeswrong/cli/dist/index.js',
    tarball,
    '--profile',
    'node16',
    '--no-emoji',
  )
}

const build = check('generate and build', 'npm', 'run', '--silent', 'build')
await check('format and lint', '@biomejs/biome/bin/biome', 'check', '--error-on-warnings', '--colors=off')
const isBuilt = await build
// Examples are compiled against the built types, as users compile theirs.
const first = (async () => {
  await check('types, TypeScript 6', 'typescript/bin/tsc', '--pretty', 'false')
  await check('types, TypeScript 7', 'typescript-7/bin/tsc', '--pretty', 'false')
  await check('architecture', 'vitest/vitest.mjs', 'run', 'test/architecture.test.ts')
})()
const second = (async () => {
  if (isBuilt) await checkPackage()
  await check('documentation', 'typedoc/bin/typedoc', '--emit', 'none')
})()
await Promise.all([first, second])
rmSync(packed, { recursive: true })
if (failed.length > 0) {
  console.log(`\nFailed: ${failed.join(', ')}`)
  process.exitCode = 1
}
