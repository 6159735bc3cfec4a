import { describe, expect, it } from 'vitest'
import { InvalidReferenceError } from '../../src/errors.ts'
import {
  familiarReference,
  formatReference,
  parseReference,
  type Reference,
  withDefaultTag,
} from '../../src/image/reference.ts'

const sha256 = `sha256:${'f'.repeat(64)}`
const sha512 = `sha512:${'0123456789abcdef'.repeat(8)}`

function errorOf(text: string): InvalidReferenceError {
  try {
    parseReference(text)
  } catch (error) {
    if (error instanceof InvalidReferenceError) return error
    throw error
  }
  throw new Error(`${text} was accepted`)
}

/** Text -> canonical form, as distribution/reference normalises it. */
const normalised: readonly (readonly [string, string])[] = [
  ['alpine', 'docker.io/library/alpine'],
  ['alpine:3.20', 'docker.io/library/alpine:3.20'],
  ['docker.io/alpine', 'docker.io/library/alpine'],
  ['docker.io/library/alpine', 'docker.io/library/alpine'],
  ['index.docker.io/alpine', 'docker.io/library/alpine'],
  ['index.docker.io/library/alpine:1', 'docker.io/library/alpine:1'],
  ['bitnami/redis', 'docker.io/bitnami/redis'],
  ['a/b/c', 'docker.io/a/b/c'],
  ['test_com', 'docker.io/library/test_com'],
  ['test.com:tag', 'docker.io/library/test.com:tag'],
  ['test.com:5000', 'docker.io/library/test.com:5000'],
  ['foo_bar.com:8080', 'docker.io/library/foo_bar.com:8080'],
  ['192.168.1.1', 'docker.io/library/192.168.1.1'],
  ['192.168.1.1:5000', 'docker.io/library/192.168.1.1:5000'],
  ['localhost', 'docker.io/library/localhost'],
  ['localhost:5000', 'docker.io/library/localhost:5000'],
  ['foo/foo_bar.com:8080', 'docker.io/foo/foo_bar.com:8080'],
  ['lowercase:Uppercase', 'docker.io/library/lowercase:Uppercase'],
  [`alpine@${sha256}`, `docker.io/library/alpine@${sha256}`],
  [`alpine:3@${sha256}`, `docker.io/library/alpine:3@${sha256}`],
  [`alpine@${sha512}`, `docker.io/library/alpine@${sha512}`],
  [
    'alpine@sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564',
    'docker.io/library/alpine@sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564',
  ],
]

/** These are canonical already: formatting gives them back. */
const canonical: readonly string[] = [
  'test.com/repo:tag',
  'test:5000/repo',
  'test:5000/repo:tag',
  `test:5000/repo@${sha256}`,
  `test:5000/repo:tag@${sha256}`,
  'localhost/repo',
  'localhost:5000/repo:1',
  'localhost.localdomain/repo',
  'Uppercase/lowercase:tag',
  'REGISTRY.example.com/x',
  'sub-dom1.foo.com/bar/baz/quux',
  'sub-dom1.foo.com/bar/baz/quux:some-long-tag',
  'b.gcr.io/test.example.com/my-app:test.example.com',
  'xn--n3h.com/myimage:xn--n3h.com',
  `xn--7o8h.com/myimage:xn--7o8h.com@${sha256}`,
  'a--b.com/x',
  '1.2.3.4/repo',
  '192.168.1.1:5000/repo:5050',
  '127.0.0.1:5000/debian:12',
  '[2001:db8::1]/repo',
  '[2001:db8:1:2:3:4:5:6]/repo:tag',
  '[2001:db8::1]:5000/repo',
  `[2001:db8::1]:5000/repo:tag@${sha256}`,
  '[2001:db8::]:5000/repo',
  '[::1]:5000/repo',
  '[::1]/a/b/c:d',
  '[FE80::ABCD]:1/x',
  'example.com/a.b_c__d-e---f/0',
  'example.com/library/x',
  'example.com/x:_tag',
  'example.com/x:1.2.3-rc.1_build',
  'example.com/x:A',
  `example.com/x:${'t'.repeat(128)}`,
  `example.com/${'a'.repeat(255)}:tag`,
  `a.b/${'a/'.repeat(127)}a:tag-puts-this-over-max`,
  `example.com/${'a'.repeat(64)}`,
  'example.com:65535/x',
  'docker.io/library/localhost/x',
]

/** Text and the position of the first character that does not fit. */
const refused: readonly (readonly [string, number])[] = [
  ['', 0],
  ['a'.repeat(64), 0],
  ['0123456789abcdef'.repeat(4), 0],
  [':justtag', 0],
  [`@${sha256}`, 0],
  ['/repo', 0],
  ['//repo', 0],
  ['repo/', 5],
  ['repo//x', 5],
  ['example.com/', 12],
  ['example.com//x', 12],
  ['example.com/:tag', 12],
  ['-repo', 0],
  ['.repo', 0],
  ['_repo', 0],
  ['repo-', 4],
  ['repo.', 4],
  ['repo_', 4],
  ['repo___x', 4],
  ['repo..x', 4],
  ['repo.-x', 4],
  ['repo_-x', 4],
  ['repo-/x', 4],
  ['x/-y', 2],
  ['Uppercase:tag', 0],
  ['upperCase:tag', 5],
  ['test:5000/Uppercase/lowercase:tag', 10],
  ['example.com/aA', 13],
  ['aa/asdf$$^/aa', 7],
  ['a b', 1],
  [' a', 0],
  ['a ', 1],
  ['a\n', 1],
  ['a\0b', 1],
  ['é', 0],
  ['repö', 3],
  ['https://example.com/x', 6],
  ['repo:', 5],
  [`repo:@${sha256}`, 5],
  ['repo:-tag', 5],
  ['repo:.tag', 5],
  ['repo:tag!', 8],
  ['repo:tag:tag', 8],
  ['repo:tag/x', 5],
  ['repo:tä', 6],
  [`repo:${'t'.repeat(129)}`, 5 + 128],
  ['repo@', 5],
  ['repo@sha256', 5],
  ['repo@sha256:', 5],
  [`repo@sha256:${'f'.repeat(34)}`, 5],
  [`repo@sha256:${'f'.repeat(65)}`, 5],
  [`repo@sha256:${'F'.repeat(64)}`, 5],
  [`repo@sha256:${'g'.repeat(64)}`, 5],
  [`repo@SHA256:${'f'.repeat(64)}`, 5],
  [`repo@sha512:${'f'.repeat(64)}`, 5],
  [`repo@${sha256}:tag`, 5],
  [`repo@${sha256}@${sha256}`, 5],
  ['repo:tag@', 9],
  ['test:/repo', 5],
  ['test:port/repo', 5],
  ['test:50a0/repo', 7],
  ['test:5000:1/repo', 9],
  ['-test.com/repo', 0],
  ['test-.com/repo', 4],
  ['test..com/repo', 4],
  ['te_st.com/repo', 2],
  ['.com/repo', 0],
  ['test.com./repo', 8],
  ['user@test.com/repo', 4],
  ['[2001:db8::1]', 0],
  ['[2001:db8::1]:5000', 0],
  ['[2001:db8::1]:tag', 0],
  ['[fe80::1%eth0]:5000/repo', 8],
  ['[fe80::1%@invalidzone]:5000/repo', 8],
  ['[]:5000/repo', 1],
  ['[::1/repo', 4],
  ['[::1]5000/repo', 5],
  ['[::1]:/repo', 6],
  ['[::1].com/repo', 5],
  ['::1/repo', 0],
  [`example.com/${'a'.repeat(256)}`, 12 + 255],
  ['a'.repeat(248), 247],
  ['a'.repeat(2000), 1024],
]

describe('parseReference', () => {
  it.each(normalised)('reads %j as %j', (text, expected) => {
    expect(formatReference(parseReference(text))).toBe(expected)
  })

  it.each(canonical)('gives %j back as it was', (text) => {
    expect(formatReference(parseReference(text))).toBe(text)
  })

  it.each(refused)('refuses %j at position %d', (text, position) => {
    const error = errorOf(text)
    expect(error.position).toBe(position)
    expect(error.code).toBe('ERR_OCI_INVALID_REFERENCE')
    expect(error.subject).toBe(text)
  })

  it('tells the parts apart', () => {
    const reference = parseReference(`[::1]:5000/a/b:c@${sha256}`)
    expect(reference).toEqual({ domain: '[::1]:5000', repository: 'a/b', tag: 'c', digest: sha256 })
  })

  it('adds no tag, and has no members for parts that are missing', () => {
    expect(parseReference('alpine')).toEqual({ domain: 'docker.io', repository: 'library/alpine' })
  })

  it('counts library/ as part of the repository, which may have 255 characters', () => {
    expect(parseReference('a'.repeat(247)).repository).toHaveLength(255)
    expect(() => parseReference('a'.repeat(248))).toThrow(InvalidReferenceError)
  })

  it('agrees with the regular expressions of the grammar on strings made of its characters', () => {
    // The grammar as distribution/reference states it, on the normalised text.
    const path = '[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*'
    const label = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])'
    const domain = `(?:${label}(?:\\.${label})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?`
    const grammar = new RegExp(`^${domain}/${path}(?:/${path})*(?::\\w[\\w.-]{0,127})?$`)
    const expected = (text: string): boolean => {
      const [first = '', ...rest] = text.split('/')
      const hasDomain = rest.length > 0 && (/[.:A-Z]/.test(first) || first === 'localhost')
      return grammar.test(hasDomain ? text : `docker.io/${text}`)
    }
    const accepts = (text: string): boolean => {
      try {
        parseReference(text)
        return true
      } catch {
        return false
      }
    }
    const alphabet = ['a', 'B', '0', '.', '_', '-', ':', '/', '[', ']', 'localhost']
    let state = 1
    const next = (bound: number): number => {
      state = (state * 48271) % 2147483647
      return state % bound
    }
    let accepted = 0
    for (let round = 0; round < 50_000; round++) {
      const text = Array.from({ length: 1 + next(8) }, () => alphabet[next(alphabet.length)]).join('')
      expect(accepts(text), text).toBe(expected(text))
      if (accepts(text)) accepted++
    }
    expect(accepted).toBeGreaterThan(1000)
  })

  it('answers quickly for long strings of separators', () => {
    const started = performance.now()
    for (const unit of ['a-', 'a.', 'a/', '-', 'a__', 'aA'])
      expect(() => parseReference(`${unit.repeat(300)}!`)).toThrow(InvalidReferenceError)
    expect(performance.now() - started).toBeLessThan(1000)
  })
})

describe('withDefaultTag', () => {
  it('adds latest when there is neither tag nor digest', () => {
    expect(withDefaultTag(parseReference('alpine')).tag).toBe('latest')
  })

  it.each(['alpine:3', `alpine@${sha256}`, `alpine:3@${sha256}`])('leaves %s alone', (text) => {
    expect(withDefaultTag(parseReference(text))).toEqual(parseReference(text))
  })
})

describe('familiarReference', () => {
  it.each([
    ['alpine', 'alpine'],
    ['docker.io/library/alpine:3.20', 'alpine:3.20'],
    ['index.docker.io/alpine', 'alpine'],
    ['docker.io/bitnami/redis:7', 'bitnami/redis:7'],
    ['docker.io/library/a/b', 'library/a/b'],
    ['127.0.0.1:5000/debian:12', '127.0.0.1:5000/debian:12'],
    ['example.com/library/x', 'example.com/library/x'],
    // Short, these would be a domain, or an image id.
    ['docker.io/foo.bar/baz', 'docker.io/foo.bar/baz'],
    ['docker.io/localhost/baz', 'docker.io/localhost/baz'],
    [`docker.io/${'a'.repeat(64)}`, `docker.io/library/${'a'.repeat(64)}`],
  ])('shows %s as %s', (text, expected) => {
    expect(familiarReference(parseReference(text))).toBe(expected)
  })

  it('keeps the canonical form of a Docker Hub repository without a namespace, which only code can make', () => {
    const odd: Reference = { domain: 'docker.io', repository: 'alpine' }
    expect(familiarReference(odd)).toBe('docker.io/alpine')
  })

  it.each([...normalised.map(([text]) => text), ...canonical])('of %j means the same', (text) => {
    const reference = parseReference(text)
    expect(parseReference(familiarReference(reference))).toEqual(reference)
  })
})
