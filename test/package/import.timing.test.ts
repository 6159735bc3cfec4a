import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { root } from './project.ts'

const entry = pathToFileURL(join(root, 'dist/index.js')).href
const required = join(root, 'dist/index.cjs')

let directory: string

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'oci-ts-import-'))
})

afterAll(() => rmSync(directory, { recursive: true }))

function script(name: string, text: string): string {
  const path = join(directory, name)
  writeFileSync(path, text)
  return path
}

/** Wall milliseconds of a Node process that runs `path`. */
function run(path: string): number {
  const started = performance.now()
  execFileSync(process.execPath, [path])
  return performance.now() - started
}

describe('importing oci-ts', () => {
  it.each([
    ['import', 'import.mjs', `import ${JSON.stringify(entry)}`],
    ['require', 'require.cjs', `require(${JSON.stringify(required)})`],
  ])('by %s costs less than 60 ms over an empty script', (_, name, text) => {
    const empty = script(name.replace(/^\w+/, 'empty'), '')
    const loading = script(name, text)
    // Whatever else runs on the machine only adds time, so the smallest of many is what it costs.
    const empties: number[] = []
    const loadings: number[] = []
    for (let round = 0; round < 15; round++) {
      empties.push(run(empty))
      loadings.push(run(loading))
    }
    expect(Math.min(...loadings) - Math.min(...empties)).toBeLessThan(60)
  })

  it.each([
    ['import', 'mjs', `await import(${JSON.stringify(entry)})`],
    ['require', 'cjs', `require(${JSON.stringify(required)})`],
  ])('by %s reads no file but modules, starts nothing and loads nothing native', (_, ending, load) => {
    const spy = script(
      'spy.cjs',
      `
      const { syncBuiltinESMExports } = require('node:module')
      const seen = []
      const watch = (object, label) => {
        for (const name of Object.keys(object)) {
          const original = object[name]
          if (typeof original !== 'function' || /^[A-Z_]/.test(name)) continue
          object[name] = function (...args) {
            const first = String(args[0])
            // The loader of CommonJS modules reads them with the functions that are watched here.
            if (!/\\.(c?js|json)$/.test(first)) seen.push(label + '.' + name + ' ' + first.slice(0, 100))
            return Reflect.apply(original, this, args)
          }
        }
      }
      module.exports = () => {
        watch(require('node:fs'), 'fs')
        watch(require('node:fs/promises'), 'fs/promises')
        watch(require('node:child_process'), 'child_process')
        const { dlopen } = process
        process.dlopen = (...args) => {
          seen.push('dlopen ' + args[1])
          return Reflect.apply(dlopen, process, args)
        }
        syncBuiltinESMExports()
        return seen
      }
      `,
    )
    const from = ending === 'mjs' ? `import watch from './spy.cjs'` : `const watch = require(${JSON.stringify(spy)})`
    const main = script(
      `main.${ending}`,
      `${from}
      const seen = watch()
      ${load}
      console.log(JSON.stringify(seen))`,
    )
    expect(JSON.parse(execFileSync(process.execPath, [main], { encoding: 'utf8' }))).toEqual([])
  })
})
