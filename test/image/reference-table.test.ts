import { describe, expect, it } from 'vitest'
import { InvalidReferenceError } from '../../src/errors.ts'
import { formatReference, parseReference } from '../../src/image/reference.ts'

/**
 * Parts of references and the verdict of distribution/reference on each, by its grammar (reference.go, regexp.go) and
 * its rules for Docker's names (normalize.go). Every part is tried in several surroundings.
 */
const domains = {
  good: [
    ...['localhost', 'localhost:5000', 'example.com', 'example.com:443', 'EXAMPLE.com', 'Example', 'UPPER', 'a.b'],
    ...['a.b.c.d.e.f', '1.2', '127.0.0.1', '127.0.0.1:5000', '999.999.999.999', 'x:1', 'x:0', 'x:99999999', 'a-b.c'],
    ...['a--b.c', 'xn--n3h.com', 'xn--n3h.com:18080', '0.0', 'registry-1.docker.io', 'ghcr.io', 'quay.io', 'gcr.io'],
    ...['public.ecr.aws', '123456789012.dkr.ecr.eu-west-1.amazonaws.com', 'mcr.microsoft.com', 'k8s.gcr.io'],
    ...[
      '[::1]',
      '[::1]:5000',
      '[2001:db8::1]',
      '[2001:db8:1:2:3:4:5:6]:5000',
      '[fe80::ABCD]:1',
      '[::]',
      '[::ffff:7f00:1]',
    ],
    '[:]',
  ],
  bad: [
    ...['-a.com', 'a-.com', 'a.-b', 'a.b-', '.com', 'com.', 'a..b', 'a_b.com', 'a_b:5000', '-:1', ':5000', 'x:', 'x:a'],
    ...[
      'x:1a',
      'x:1:2',
      'x:-1',
      'x: 1',
      'a b.com',
      'exämple.com',
      'a.com:80:80',
      '*.com',
      'a@b.com',
      'https:',
      'a,b.c',
    ],
    ...[
      '[',
      '[]',
      '[]:1',
      '[::1',
      '::1',
      '[::1]x',
      '[::1].com',
      '[::1]:',
      '[::1]:x',
      '[fe80::1%eth0]',
      '[g::1]',
      '[::1]]',
    ],
    ...['Upper_case', 'A-', '-A', 'A!', 'a.b\\c', 'a.b?c', '[a]'],
  ],
} as const

const paths = {
  good: [
    ...[
      'a',
      '0',
      'abc',
      'a0',
      '0a',
      'a.b',
      'a_b',
      'a__b',
      'a-b',
      'a--b',
      'a---b',
      'a.b.c',
      'a_b.c-d__e',
      'a-----------b',
    ],
    ...[
      'a/b',
      'a/b/c',
      'a/b/c/d/e/f/g/h',
      'a.b/c_d',
      'library/x',
      'x/library',
      'a/0',
      '0/1/2',
      'a/b__c/d--e',
      'v2',
      'v2/x',
    ],
    ...['tags', 'manifests/x', 'blobs/uploads', 'a'.repeat(63), 'a'.repeat(65), `a/${'b'.repeat(200)}`, 'x/localhost'],
    ...['x/example.com', 'x/deadbeef', 'foo/foo_bar.com'],
  ],
  bad: [
    ...[
      '',
      '/',
      'a/',
      '/a',
      'a//b',
      '-a',
      'a-',
      '.a',
      'a.',
      '_a',
      'a_',
      'a..b',
      'a___b',
      'a_-b',
      'a-_b',
      'a.-b',
      'a-.b',
    ],
    ...[
      'a._b',
      'a_.b',
      'a____b',
      'A',
      'aB',
      'a/B',
      'a/bC',
      'a b',
      ' a',
      'a ',
      'a\tb',
      'a\n',
      'a\0',
      'é',
      'aé',
      'a+b',
      'a=b',
    ],
    ...[
      'a,b',
      'a;b',
      'a!',
      'a$',
      'a%20b',
      'a*',
      'a(b)',
      'a[b]',
      'a{b}',
      'a|b',
      'a\\b',
      "a'b",
      'a"b',
      'a<b',
      'a>b',
      'a?b',
    ],
    ...['a#b', 'a&b', 'a^b', 'a`b', 'a~b', 'a/../b', 'a/./b', '..', '.', 'a/-b', 'a/b-', 'a/.b', 'a/_b', '中文'],
    ...['a'.repeat(256), `${'a/'.repeat(128)}a`],
  ],
} as const

const tags = {
  good: [
    ...[
      'latest',
      '1',
      '1.0',
      '1.0.0',
      'v1',
      'V1',
      '_',
      '_a',
      '__',
      'a.b',
      'a-b',
      'a_b',
      'a..b',
      'a--b',
      'a.',
      'a-',
      'a_',
    ],
    ...[
      'A',
      'Z9',
      '1.2.3-rc.1_build',
      'sha256-abc',
      '0',
      '3.20',
      't'.repeat(128),
      'a.-_',
      '20240101',
      'UPPER-lower_0.9',
    ],
  ],
  bad: [
    ...[
      '',
      '-',
      '.',
      '-a',
      '.a',
      '..',
      'a b',
      ' a',
      'a ',
      'a/b',
      'a:b',
      'a+b',
      'a!',
      'a$b',
      'a%b',
      'é',
      'a\n',
      'a=b',
      'a,b',
    ],
    ...['a*', 'a(b', 'a#b', 'a~b', 't'.repeat(129), 'a\\b', 'a^b', '中'],
  ],
} as const

const digests = {
  good: [
    ...[`sha256:${'f'.repeat(64)}`, `sha256:${'0123456789abcdef'.repeat(4)}`, `sha512:${'a'.repeat(128)}`],
    ...[
      'multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8',
      'sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g',
    ],
  ],
  bad: [
    ...['', ':', 'sha256', 'sha256:', ':abc', `sha256:${'f'.repeat(63)}`, `sha256:${'f'.repeat(65)}`, 'sha256:abc'],
    ...[
      `sha256:${'F'.repeat(64)}`,
      `sha256:${'g'.repeat(64)}`,
      `sha512:${'f'.repeat(64)}`,
      `sha512:${'F'.repeat(128)}`,
    ],
    ...[
      `-sha256:${'f'.repeat(64)}`,
      `sha 256:${'f'.repeat(64)}`,
      `sha256 :${'f'.repeat(64)}`,
      `sha256:${'f'.repeat(64)} `,
    ],
    ...[
      `sha256:${'f'.repeat(64)}:x`,
      `sha256:${'f'.repeat(64)}@x`,
      `sha256::${'f'.repeat(63)}`,
      'sha256:../../etc/passwd',
    ],
  ],
} as const

const sha = digests.good[0]

/** Every string, and its canonical form; undefined for what is refused. */
function table(): ReadonlyMap<string, string | undefined> {
  const rows = new Map<string, string | undefined>()
  for (const domain of domains.good) {
    for (const rest of ['a', 'a/b:1', `a.b/c@${sha}`]) rows.set(`${domain}/${rest}`, `${domain}/${rest}`)
  }
  for (const domain of domains.bad) for (const rest of ['a', 'a/b:1']) rows.set(`${domain}/${rest}`, undefined)
  for (const path of paths.good) {
    rows.set(`example.com/${path}`, `example.com/${path}`)
    rows.set(`localhost:5000/${path}:1@${sha}`, `localhost:5000/${path}:1@${sha}`)
    // The first part with a dot would be a domain.
    const first = path.split('/')[0] ?? ''
    const isDomain = path.includes('/') && first.includes('.')
    if (isDomain) continue
    rows.set(path, `docker.io/${path.includes('/') ? '' : 'library/'}${path}`)
    rows.set(`docker.io/${path}`, `docker.io/${path.includes('/') ? '' : 'library/'}${path}`)
    rows.set(`index.docker.io/${path}:t`, `docker.io/${path.includes('/') ? '' : 'library/'}${path}:t`)
  }
  for (const path of paths.bad) {
    rows.set(`example.com/${path}`, undefined)
    rows.set(`example.com/${path}:1`, undefined)
  }
  for (const tag of tags.good) {
    rows.set(`example.com/a:${tag}`, `example.com/a:${tag}`)
    rows.set(`a:${tag}`, `docker.io/library/a:${tag}`)
    rows.set(`a:${tag}@${sha}`, `docker.io/library/a:${tag}@${sha}`)
  }
  for (const tag of tags.bad) {
    rows.set(`example.com/a:${tag}`, undefined)
    rows.set(`x/a:${tag}@${sha}`, undefined)
  }
  for (const digest of digests.good) {
    rows.set(`a@${digest}`, `docker.io/library/a@${digest}`)
    rows.set(`[::1]:1/a/b:c@${digest}`, `[::1]:1/a/b:c@${digest}`)
  }
  for (const digest of digests.bad) {
    rows.set(`a@${digest}`, undefined)
    rows.set(`example.com/a:t@${digest}`, undefined)
  }
  return rows
}

function verdict(text: string): string | undefined {
  try {
    return formatReference(parseReference(text))
  } catch (error) {
    if (error instanceof InvalidReferenceError) return undefined
    throw error
  }
}

describe('the table of references', () => {
  const rows = table()

  it('has more than 500 strings, of both kinds', () => {
    const verdicts = [...rows.values()]
    expect(rows.size).toBeGreaterThan(500)
    expect(verdicts.filter((each) => each === undefined).length).toBeGreaterThan(200)
    expect(verdicts.filter((each) => each !== undefined).length).toBeGreaterThan(200)
  })

  it('is what the parser says', () => {
    const wrong = [...rows].filter(([text, expected]) => verdict(text) !== expected)
    expect(wrong.map(([text, expected]) => ({ text, expected, actual: verdict(text) }))).toEqual([])
  })

  it('gives canonical forms that stay as they are', () => {
    const forms = [...rows.values()].filter((each) => each !== undefined)
    expect(forms.filter((form) => verdict(form) !== form)).toEqual([])
  })
})
