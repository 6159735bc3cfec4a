import { constants } from 'node:os'
import { describe, expect, it } from 'vitest'
import { call } from '../../src/linux/call.ts'
import { errnoName, errnoNumber, syscallError } from '../../src/linux/errno.ts'

describe('errno names', () => {
  it('are those of the kernel, both ways', () => {
    for (const name of ['EPERM', 'ENOENT', 'EAGAIN', 'EOPNOTSUPP', 'EUCLEAN', 'ENOMEDIUM', 'EHWPOISON', 'ESTALE']) {
      expect(errnoName(errnoNumber(name) as number)).toBe(name)
    }
    expect(errnoNumber('EWOULDBLOCK')).toBe(errnoNumber('EAGAIN'))
    expect(errnoNumber('ENOTSUP')).toBe(errnoNumber('EOPNOTSUPP'))
  })

  it('know every name of Node', () => {
    for (const [name, number] of Object.entries(constants.errno)) expect(errnoNumber(name)).toBe(number)
  })

  it('say so when there is none', () => {
    expect(errnoName(4095)).toBe('errno 4095')
    expect(errnoNumber('toString')).toBeUndefined()
  })
})

describe('syscallError', () => {
  it('has a text for every errno', () => {
    for (let errno = 1; errno <= 133; errno++) {
      if (errnoName(errno).startsWith('errno ')) continue
      expect(syscallError(call('mount', []), errno).message).toMatch(/^mount: .{4,} \(E[A-Z0-9]+\)$/)
    }
  })

  it('quotes and cuts a hostile path', () => {
    const { message } = syscallError(call('mkdirat', [], { path: `\u001b[2J${'x'.repeat(5000)}` }), 2)
    expect(message).not.toContain('\u001b')
    expect(message.length).toBeLessThan(400)
  })
})
