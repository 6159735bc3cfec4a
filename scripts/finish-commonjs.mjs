// import() in a CommonJS file works in Node, but not in Jest, whose users the CommonJS build is for.
// tsup can't say that it be written as require(), so that is done here, after it; nor what the file beside the
// command line is called when it is built.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { transformSync } from 'esbuild'

const dist = fileURLToPath(new URL('../dist', import.meta.url))

for (const name of readdirSync(dist, { recursive: true })) {
  if (!name.endsWith('.cjs')) continue
  const path = join(dist, name)
  const text = readFileSync(path, 'utf8').replaceAll('./library.ts', './library.cjs')
  const { code } = !text.includes('import(')
    ? { code: text }
    : transformSync(text, { platform: 'node', target: 'node20', supported: { 'dynamic-import': false } })
  writeFileSync(path, code)
}
