import { describe, expect, it } from 'vitest'
import { redactText, redactUrl } from '../../src/internal/redact.ts'

describe('a URL in a message', () => {
  it('has no user information, no query values and no fragment', () => {
    expect(redactUrl('https://me:secret@a.test:5000/v2/?digest=sha256:1&sig=secret&sig=2#secret')).toBe(
      'https://a.test:5000/v2/?digest=…&sig=…',
    )
  })

  it('is not shown when it is malformed, and cut when it is long', () => {
    expect(redactUrl('http://secret@')).toBe('(malformed URL)')
    expect(redactUrl(`http://a.test/${'x'.repeat(10_000)}`).length).toBeLessThan(600)
  })
})

describe('the text of a stranger', () => {
  it('loses the secrets of its URLs, its control characters and its length', () => {
    expect(redactText('GET https://me:pw@a.test/x?token=abc failed\n\u001b[31m"why"')).toBe(
      'GET https://a.test/x?token=… failed\\n\\u001b[31m"why"',
    )
    expect(redactText('x'.repeat(1e6)).length).toBeLessThan(400)
  })
})
