import { describe, expect, it } from 'vitest'
import { backoff, isTransientError, parseRetryAfter, retryPolicy } from '../../src/distribution/retry.ts'
import { NetworkError } from '../../src/errors.ts'

describe('Retry-After', () => {
  const now = Date.parse('Sun, 06 Nov 1994 08:49:37 GMT')

  it('is a number of seconds', () => {
    expect(parseRetryAfter('0')).toBe(0)
    expect(parseRetryAfter(' 120 ')).toBe(120_000)
  })

  it('is a date', () => {
    expect(parseRetryAfter('Sun, 06 Nov 1994 08:50:07 GMT', now)).toBe(30_000)
    expect(parseRetryAfter('Sunday, 06-Nov-94 08:50:07 GMT', now)).toBe(30_000)
    expect(parseRetryAfter('Sun Nov  6 08:50:07 1994', now)).toBe(30_000)
    expect(parseRetryAfter('Sun, 06 Nov 1994 08:00:00 GMT', now)).toBe(0)
  })

  it('is ignored when it is neither', () => {
    for (const header of [null, '', '-1', '1.5', '1e9', 'soon', '99999999999999', `${' '.repeat(99)}x`]) {
      expect(parseRetryAfter(header), String(header)).toBeUndefined()
    }
  })
})

describe('the wait before a repetition', () => {
  const policy = retryPolicy()

  it('doubles up to its limit, and varies by half', () => {
    expect([1, 2, 3, 4, 20, 2000].map((count) => backoff(count, policy, () => 1))).toEqual([
      250, 500, 1000, 2000, 10_000, 10_000,
    ])
    expect(backoff(3, policy, () => 0)).toBe(500)
  })
})

describe('a network error', () => {
  const error = (code: string): Error =>
    new NetworkError('http://a', 'failed', { cause: Object.assign(new Error('x'), { code }) })

  it('may pass when the connection broke', () => {
    for (const code of ['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'EAI_AGAIN'])
      expect(isTransientError(error(code))).toBe(true)
  })

  it('does not pass when the host is unknown, nothing listens or the certificate is wrong', () => {
    for (const code of ['ENOTFOUND', 'ECONNREFUSED', 'CERT_HAS_EXPIRED', 'SELF_SIGNED_CERT_IN_CHAIN']) {
      expect(isTransientError(error(code))).toBe(false)
    }
  })
})
