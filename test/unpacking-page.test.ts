import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const project = new URL('..', import.meta.url)
const page = readFileSync(new URL('docs/unpacking.md', project), 'utf8')
const rows = [...page.matchAll(/^\| (\d+) \| (.+) \| (.+) \| (.+) \|$/gm)]

describe('the page of unpacking', () => {
  it('has each of the 50 points once', () => {
    expect(rows.map(([, number]) => Number(number))).toEqual(Array.from({ length: 50 }, (_, i) => i + 1))
  })

  it.each(rows.map(([, number, what, , tests]) => [number, what, tests] as const))(
    '%s names tests that there are: %s',
    (_, __, tests = '') => {
      const named = tests.split('<br>').map((each) => /^`([^`]+)`: (.+)$/.exec(each))
      expect(named.length).toBeGreaterThan(0)
      for (const match of named) {
        const [, file = '', name = ''] = match ?? []
        const path = fileURLToPath(new URL(file, project))
        expect(existsSync(path), file).toBe(true)
        // As the title of a test, or of one of its cases.
        const source = readFileSync(path, 'utf8')
        const quoted = ["'", '"', '`'].some((quote) => source.includes(`${quote}${name}${quote}`))
        expect(quoted, `${file}: ${name}`).toBe(true)
      }
    },
  )
})
