import { describe, expect, it } from 'vitest'
import { parseToml } from '../../../src/distribution/mirrors/toml.ts'
import { InvalidArgumentError } from '../../../src/errors.ts'

const parse = (text: string): unknown => JSON.parse(JSON.stringify(parseToml(text, 'test.conf')))

describe('TOML', () => {
  it('has tables, arrays of tables, and tables inside these', () => {
    const text =
      'a = 1\n[t]\nx = true\n[t.u]\ny = "z"\n[[r]]\nn = 1\n[[r.m]]\nl = "a"\n[[r.m]]\nl = "b"\n[[r]]\nn = 2\n'
    expect(parse(text)).toEqual({
      a: 1,
      t: { x: true, u: { y: 'z' } },
      r: [{ n: 1, m: [{ l: 'a' }, { l: 'b' }] }, { n: 2 }],
    })
  })

  it('has strings of four kinds, with their escapes', () => {
    expect(parse(String.raw`a = "x\ty\"\\ \u00e9 \U0001F600"`)).toEqual({ a: 'x\ty"\\ é 😀' })
    expect(parse("a = 'C:\\x'")).toEqual({ a: 'C:\\x' })
    expect(parse('a = """\nx\n"y" \\\n   z"""')).toEqual({ a: 'x\n"y" z' })
    expect(parse("a = '''\nx\\n'y'''")).toEqual({ a: "x\\n'y" })
  })

  it('has arrays over several lines, inline tables, dotted and quoted keys, comments', () => {
    const text = 'a = [ # list\n  "x",\n  "y", # last\n]\nb = { c = 1, "d e" = [] }\n"f.g".h = -1_000.5 # end'
    expect(parse(text)).toEqual({ a: ['x', 'y'], b: { c: 1, 'd e': [] }, 'f.g': { h: -1000.5 } })
  })

  it('may have Windows line ends and a byte order mark, or nothing at all', () => {
    expect(parse('\ufeffa = 1\r\n\r\nb = 2\r\n')).toEqual({ a: 1, b: 2 })
    expect(parse('')).toEqual({})
    expect(parse(' # nothing\n\n')).toEqual({})
  })

  it('can not reach the prototype of objects', () => {
    const document = parseToml('[__proto__]\npolluted = true\n[constructor]\nx = 1', 'test.conf')
    expect(Reflect.get({}, 'polluted')).toBeUndefined()
    expect(Object.keys(document)).toEqual(['__proto__', 'constructor'])
  })

  it.each([
    ['a', 1],
    ['a = ', 1],
    ['x = 1\na = "b', 2],
    ['a = 1 b = 2', 1],
    ['a = 1\na = 2', 2],
    ['[a', 1],
    ['a = [1 2]', 1],
    ['a = 1\n[a]\nb = 2', 2],
    ['a = 1\n[[a]]', 2],
    ['a = "\\q"', 1],
    ['a = 2024-01-01T00:00:00Z', 1],
    [`a = ${'['.repeat(100)}`, 1],
  ])('is refused with its line when it is %j', (text, line) => {
    expect(() => parseToml(text, 'test.conf')).toThrow(InvalidArgumentError)
    expect(() => parseToml(text, 'test.conf')).toThrow(`test.conf, line ${line}:`)
  })
})
