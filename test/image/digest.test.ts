import { describe, expect, it } from 'vitest'
import { InvalidArgumentError, InvalidDigestError } from '../../src/errors.ts'
import { chainId, chainIds } from '../../src/image/chain-id.ts'
import {
  createDigester,
  type Digest,
  digestAlgorithm,
  digestEncoded,
  digestOf,
  isDigest,
  isVerifiable,
  parseDigest,
} from '../../src/image/digest.ts'

const empty = 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

describe('parseDigest', () => {
  it.each([
    empty,
    `sha512:${'a'.repeat(128)}`,
    `blake3:${'0'.repeat(64)}`,
    'multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8',
    'sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564',
    'sha384:00',
    'a.b_c-d+e:=_-Z',
    'constructor:1',
    '0:0',
  ])('accepts %s', (text) => {
    expect(parseDigest(text)).toBe(text)
    expect(isDigest(text)).toBe(true)
  })

  it.each([
    '',
    ':',
    'sha256',
    'sha256:',
    `:${'a'.repeat(64)}`,
    `sha256:${'a'.repeat(63)}`,
    `sha256:${'a'.repeat(65)}`,
    `sha256:${'A'.repeat(64)}`,
    `sha256:${'g'.repeat(64)}`,
    `sha512:${'a'.repeat(64)}`,
    `blake3:${'a'.repeat(63)}`,
    `SHA256:${'a'.repeat(64)}`,
    `${empty}\n`,
    ` ${empty}`,
    'sha256+:abc',
    '+sha256:abc',
    'sha++x:abc',
    'x:a/b',
    'x:..',
    '../x:a',
    'x:a:b',
    `x:${'a'.repeat(254)}`,
  ])('refuses %j', (text) => {
    expect(() => parseDigest(text)).toThrow(InvalidDigestError)
    expect(isDigest(text)).toBe(false)
  })

  it('gives the parts', () => {
    const digest = parseDigest('a+b:cd')
    expect([digestAlgorithm(digest), digestEncoded(digest)]).toEqual(['a+b', 'cd'])
  })
})

describe('digestOf', () => {
  it('is sha256 unless told otherwise', () => {
    expect(digestOf(new Uint8Array())).toBe(empty)
    expect(digestOf(Buffer.from('abc'), 'sha512')).toMatch(/^sha512:ddaf35a1/)
  })

  it('is the same in pieces', () => {
    const digester = createDigester()
    for (const piece of ['a', 'b', 'c']) digester.update(Buffer.from(piece))
    expect(digester.digest()).toBe(digestOf(Buffer.from('abc')))
  })

  it('is refused for algorithms that can not be computed', () => {
    expect(() => createDigester('blake3')).toThrow(InvalidDigestError)
    expect(isVerifiable(`blake3:${'0'.repeat(64)}`)).toBe(false)
    expect(isVerifiable('sha512:0')).toBe(true)
  })
})

describe('chainId', () => {
  const a: Digest = `sha256:${'a'.repeat(64)}`
  const b: Digest = `sha256:${'b'.repeat(64)}`
  const c: Digest = `sha256:${'c'.repeat(64)}`

  it('of one layer is its DiffID', () => {
    expect(chainId([a])).toBe(a)
  })

  it('of more is the digest of the one below, a space and the DiffID', () => {
    const ab = digestOf(Buffer.from(`${a} ${b}`))
    expect(chainId([a, b])).toBe(ab)
    expect(chainIds([a, b, c])).toEqual([a, ab, digestOf(Buffer.from(`${ab} ${c}`))])
  })

  it('of none does not exist', () => {
    expect(() => chainId([])).toThrow(InvalidArgumentError)
    expect(chainIds([])).toEqual([])
  })
})
