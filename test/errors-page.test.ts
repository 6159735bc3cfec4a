import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import * as errors from '../src/errors.ts'

const page = readFileSync(new URL('../docs/errors.md', import.meta.url), 'utf8')
const source = readFileSync(new URL('../src/errors.ts', import.meta.url), 'utf8')
const classes = Object.entries(errors).filter(
  ([, value]) => typeof value === 'function' && value.prototype instanceof Error,
)

describe('the page of errors', () => {
  it('lists every class once, with its code', () => {
    const rows = [...page.matchAll(/^\| `(\w+)` \| (?:`(\w+)`)? ?\|/gm)].map(([, name, code]) => [name, code])
    const expected = classes.map(([name]) => {
      const body = source.slice(source.indexOf(`export class ${name} `))
      return [name, name === 'OciError' ? undefined : /'(ERR_OCI_\w+)'/.exec(body)?.[1]]
    })
    expect(rows.toSorted()).toEqual(expected.toSorted())
  })
})
