import { describe, expect, it } from 'vitest'
import { parseChallenges } from '../../../src/distribution/auth/challenge.ts'

const parse = (header: string | null): unknown =>
  parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)])

describe('a WWW-Authenticate header', () => {
  it('has schemes and parameters, whose names have no case', () => {
    expect(
      parse('BEARER Realm="https://auth.example/token",service=registry,SCOPE="repository:a/b:pull,push"'),
    ).toEqual([
      ['bearer', { realm: 'https://auth.example/token', service: 'registry', scope: 'repository:a/b:pull,push' }],
    ])
  })

  it('may have several challenges, separated by the commas that also separate parameters', () => {
    expect(parse('Negotiate, Basic realm="a, b" , charset="UTF-8", Bearer realm="x", NTLM')).toEqual([
      ['negotiate', {}],
      ['basic', { realm: 'a, b', charset: 'UTF-8' }],
      ['bearer', { realm: 'x' }],
      ['ntlm', {}],
    ])
  })

  it('may quote characters, leave parts of lists empty, and put space around the equals sign', () => {
    expect(parse(' , Basic realm = "say \\"hi\\" \\\\" ,, ,a=b,')).toEqual([
      ['basic', { realm: 'say "hi" \\', a: 'b' }],
    ])
  })

  it('may carry a token in place of parameters', () => {
    expect(parse('Negotiate abc123+/==, Basic realm=x')).toEqual([
      ['negotiate', {}],
      ['basic', { realm: 'x' }],
    ])
  })

  it('may have a URL without quotes, as some registries send it', () => {
    expect(parse('Bearer realm=https://auth.example/token?a=b,service=s')).toEqual([
      ['bearer', { realm: 'https://auth.example/token?a=b', service: 's' }],
    ])
  })

  it('counts the first of two parameters with one name', () => {
    expect(parse('Bearer realm="a",realm="b"')).toEqual([['bearer', { realm: 'a' }]])
  })

  it('is empty when it is absent or makes no sense', () => {
    for (const header of [null, '', ' ', ',,,', '"quoted"', '=x']) expect(parse(header)).toEqual([])
  })

  it('keeps what came before a fault', () => {
    expect(parse('Basic realm="x", @@@ Bearer realm="y"')).toEqual([['basic', { realm: 'x' }]])
    expect(parse('Basic realm="never closed')).toEqual([['basic', {}]])
  })

  it('of great length takes no great time', () => {
    const started = performance.now()
    for (const part of ['a=b,', 'a ', '"', '\\"', 'Basic realm="x",', ',', '= ', 'a="\\']) {
      parseChallenges(`Basic ${part.repeat(200_000)}`)
    }
    expect(performance.now() - started).toBeLessThan(1000)
  })
})
