import { describe, expect, it } from 'vitest'
import { InvalidReferenceError, NotFoundError, OciError } from '../src/errors.ts'

describe('OciError', () => {
  it('answers instanceof for its own kind and its ancestors only', () => {
    const error = new NotFoundError('sha256:00')
    expect(error).toBeInstanceOf(NotFoundError)
    expect(error).toBeInstanceOf(OciError)
    expect(error instanceof InvalidReferenceError).toBe(false)
    expect(new Error('x') instanceof OciError).toBe(false)
  })

  it('is recognised by a second copy of the package', async () => {
    const copy = (await import('../src/errors.ts?copy' as string)) as typeof import('../src/errors.ts')
    expect(copy.NotFoundError).not.toBe(NotFoundError)
    expect(new copy.NotFoundError('x')).toBeInstanceOf(NotFoundError)
  })

  it('appends the hint and chains the cause', () => {
    const cause = new Error('below')
    const error = new OciError('ERR_OCI_TEST', 'it failed', { hint: 'try again', cause })
    expect(error.message).toBe('it failed\ntry again')
    expect(error.cause).toBe(cause)
    expect(error.code).toBe('ERR_OCI_TEST')
  })

  it('quotes hostile input and cuts it', () => {
    const error = new InvalidReferenceError(`\u001b[31m${'x'.repeat(1000)}`, 0, 'bad')
    expect(error.message).not.toContain('\u001b')
    expect(error.message.length).toBeLessThan(300)
  })
})
